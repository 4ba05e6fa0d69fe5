//! An API server as far as Ringway asks one: lists in pages, watches, bookmarks; and everything that goes wrong with them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

/// What one request gets in place of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, with a message.
    Status(u16, &'static str),
    /// 200 with this text.
    Text(&'static str),
    /// The right answer, cut off in the middle.
    Truncated,
    /// The head of an answer and then nothing.
    Stall,
    /// The first text, then the second one so many times, then the third one, with this status.
    Flood(u16, &'static str, &'static str, usize, &'static str),
    /// A page with this object so many times, that goes on somewhere else every time; for good.
    Endless(&'static str, usize),
}

/// More often than anybody reads.
pub(crate) const FOR_EVER: usize = usize::MAX / 2;

type Line = Result<Bytes, std::io::Error>;

#[derive(Default)]
struct World {
    version: u64,
    /// By path, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    history: Vec<(u64, String, Value)>,
    /// Versions before this one are forgotten.
    oldest: u64,
    watchers: Vec<(String, UnboundedSender<Line>)>,
    faults: HashMap<(String, &'static str), VecDeque<Fault>>,
    /// `list PATH QUERY` and `watch PATH QUERY`.
    requests: Vec<String>,
}

struct Shared {
    world: Mutex<World>,
    /// Paths that are not answered now.
    held: watch::Sender<Vec<String>>,
}

/// The server. It ends with this.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { world: Mutex::default(), held: watch::Sender::new(Vec::new()) });
        shared.world.lock().unwrap().version = 1;
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Server { address, shared, task }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// Creates or changes an object, and tells the watchers.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut world = self.world();
        world.version += 1;
        object["metadata"]["resourceVersion"] = world.version.to_string().into();
        let key = key(&object);
        let old = world.objects.entry(path.to_owned()).or_default().insert(key, object.clone());
        world.tell(path, if old.is_some() { "MODIFIED" } else { "ADDED" }, object);
    }

    /// Deletes an object, and tells the watchers.
    pub(crate) fn delete(&self, path: &str, key: &str) {
        let mut world = self.world();
        world.version += 1;
        let mut object = world.objects.get_mut(path).and_then(|objects| objects.remove(key)).unwrap();
        object["metadata"]["resourceVersion"] = world.version.to_string().into();
        world.tell(path, "DELETED", object);
    }

    /// Something that nobody watches moved the version on; the watchers of `path` are told so.
    pub(crate) fn bookmark(&self, path: &str) -> u64 {
        let mut world = self.world();
        world.version += 100;
        let version = world.version;
        world.send(path, &line("BOOKMARK", json!({"metadata": {"resourceVersion": version.to_string()}})));
        version
    }

    /// Sends this to the watchers of `path` as it is.
    pub(crate) fn send(&self, path: &str, text: &str) {
        self.world().send(path, text);
    }

    /// Closes all watches.
    pub(crate) fn cut(&self) {
        self.world().watchers.clear();
    }

    /// Breaks all watches of `path` off in the middle of an answer.
    pub(crate) fn tear(&self, path: &str) {
        let mut world = self.world();
        for (_, watcher) in world.watchers.extract_if(.., |(of, _)| of == path) {
            watcher.unbounded_send(Err(std::io::Error::other("torn"))).ok();
        }
    }

    /// Forgets all history.
    pub(crate) fn compact(&self) {
        let mut world = self.world();
        world.version += 1;
        world.oldest = world.version;
        world.history.clear();
    }

    /// The next `list` or `watch` requests for `path` get these.
    pub(crate) fn fail(&self, path: &str, verb: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.world().faults.entry((path.to_owned(), verb)).or_default().extend(faults);
    }

    /// Whether all faults have been met.
    pub(crate) fn is_done(&self) -> bool {
        self.world().faults.values().all(VecDeque::is_empty)
    }

    /// No longer fails.
    pub(crate) fn recover(&self) {
        self.world().faults.clear();
    }

    /// Leaves requests for these paths unanswered until this is called without them.
    pub(crate) fn hold(&self, paths: &[&str]) {
        self.shared.held.send_replace(paths.iter().map(|path| (*path).to_owned()).collect());
    }

    /// The requests so far that begin with `what`.
    pub(crate) fn requests(&self, what: &str) -> Vec<String> {
        self.world().requests.iter().filter(|request| request.starts_with(what)).cloned().collect()
    }

    /// How many watch `path` now.
    pub(crate) fn watchers(&self, path: &str) -> usize {
        self.world().watchers.iter().filter(|(of, watcher)| of == path && !watcher.is_closed()).count()
    }
}

impl World {
    fn tell(&mut self, path: &str, type_: &str, object: Value) {
        self.send(path, &line(type_, object.clone()));
        self.history.push((self.version, path.to_owned(), json!({"type": type_, "object": object})));
    }

    fn send(&mut self, path: &str, text: &str) {
        let text = Bytes::from(text.to_owned());
        self.watchers.retain(|(of, watcher)| of != path || watcher.unbounded_send(Ok(text.clone())).is_ok());
    }
}

/// In the order of a real one: the type first.
fn line(type_: &str, object: Value) -> String {
    format!("{{\"type\":\"{type_}\",\"object\":{object}}}\n")
}

fn key(object: &Value) -> String {
    let text = |key| object["metadata"][key].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, Query(query): Query<HashMap<String, String>>) -> Response {
    let path = uri.path().to_owned();
    let watches = query.get("watch").is_some_and(|value| value == "true");
    let verb = if watches { "watch" } else { "list" };
    let fault = {
        let mut world = shared.world.lock().unwrap();
        world.requests.push(format!("{verb} {path} {}", uri.query().unwrap_or_default()));
        world.faults.get_mut(&(path.clone(), verb)).and_then(VecDeque::pop_front)
    };
    let _ = shared.held.subscribe().wait_for(|held| !held.contains(&path)).await;
    match fault {
        Some(Fault::Status(code, message)) => return status(code, message),
        Some(Fault::Text(text)) => return text.into_response(),
        Some(Fault::Flood(code, first, again, times, last)) => {
            // In pieces of some size, so that the server is not what is slow.
            let once = (64 << 10) / again.len() + 1;
            let piece = Bytes::from(again.repeat(once));
            let pieces = (0..times / once).map(move |_| piece.clone());
            let rest = [Bytes::from(again.repeat(times % once)), Bytes::from_static(last.as_bytes())];
            let all = [Bytes::from_static(first.as_bytes())].into_iter().chain(pieces).chain(rest);
            let body = Body::from_stream(futures::stream::iter(all.map(Line::Ok)));
            return (StatusCode::from_u16(code).unwrap(), body).into_response();
        }
        Some(Fault::Endless(object, times)) => {
            let mut world = shared.world.lock().unwrap();
            world.version += 1;
            let version = world.version;
            world.faults.entry((path, verb)).or_default().push_front(Fault::Endless(object, times));
            let items = vec![object; times].join(",");
            return format!(r#"{{"metadata":{{"continue":"p{version}"}},"items":[{items}]}}"#).into_response();
        }
        Some(Fault::Stall) => return Body::from_stream(futures::stream::pending::<Line>()).into_response(),
        _ => {}
    }
    let mut world = shared.world.lock().unwrap();
    if watches {
        return watch_from(&mut world, &path, query["resourceVersion"].parse().unwrap());
    }
    let page = list(&world, &path, &query).to_string();
    if matches!(fault, Some(Fault::Truncated)) {
        let half = Bytes::from(page[..page.len() / 2].to_owned());
        let pieces = [Ok(half), Err(std::io::Error::other("torn"))];
        return Body::from_stream(futures::stream::iter(pieces)).into_response();
    }
    page.into_response()
}

fn list(world: &World, path: &str, query: &HashMap<String, String>) -> Value {
    let selects = |object: &&Value| match query.get("fieldSelector").map(String::as_str) {
        Some(selector) => selector == format!("metadata.name={}", object["metadata"]["name"].as_str().unwrap()),
        None => true,
    };
    let objects = world.objects.get(path).into_iter().flat_map(BTreeMap::values).filter(selects);
    let begin = query.get("continue").map_or(0, |token| token.parse::<usize>().unwrap());
    let limit: usize = query["limit"].parse().unwrap();
    let mut items: Vec<&Value> = objects.skip(begin).collect();
    let mut metadata = json!({"resourceVersion": world.version.to_string()});
    if items.len() > limit {
        items.truncate(limit);
        metadata["continue"] = (begin + limit).to_string().into();
    }
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
}

fn watch_from(world: &mut World, path: &str, version: u64) -> Response {
    let (sender, receiver) = unbounded::<Line>();
    if version < world.oldest {
        let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
        sender.unbounded_send(Ok(line("ERROR", gone).into())).unwrap();
    } else {
        for (at, of, event) in &world.history {
            if *at > version && of == path {
                sender
                    .unbounded_send(Ok(line(event["type"].as_str().unwrap(), event["object"].clone()).into()))
                    .unwrap();
            }
        }
        world.watchers.push((path.to_owned(), sender));
    }
    Body::from_stream(receiver.boxed()).into_response()
}

fn status(code: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "message": message}).to_string();
    (StatusCode::from_u16(code).unwrap(), body).into_response()
}
