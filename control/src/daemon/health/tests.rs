use std::path::Path;

use super::*;
use crate::daemon::descriptors;
use crate::parse::{self, Document, Kind, Object, Parsed};

/// An interface that packets can leave by.
pub(super) fn up() -> InterfaceReport {
    InterfaceReport { name: "eth0".into(), up: true, mode: Some("native".into()), ..InterfaceReport::default() }
}

struct Bed {
    published: watch::Sender<Arc<Published>>,
    cluster: watch::Sender<Arc<ClusterState>>,
    interfaces: watch::Sender<Arc<[InterfaceReport]>>,
    hearts: Hearts,
    health: Arc<Health>,
    tasks: Tasks,
}

impl Bed {
    fn new() -> Self {
        let (published, in_force) = watch::channel(Arc::default());
        let (cluster, known) = watch::channel(Arc::default());
        let (interfaces, there) = watch::channel(Arc::from([up()]));
        let hearts = Hearts::default();
        let known = Known { published: in_force, cluster: known, interfaces: there, hearts: hearts.clone() };
        let health = Health::new(known, SourceHealth::of_files(), "gw-1");
        let mut tasks = Tasks::default();
        tasks.spawn(&Handle::current(), "health", health.clone().follow());
        Bed { published, cluster, interfaces, hearts, health, tasks }
    }

    /// The source tells of this cluster.
    fn know(&self, cluster: ClusterState) {
        self.cluster.send_replace(Arc::new(cluster));
    }

    /// What is known comes into force.
    fn put_in_force(&self) {
        let cluster = self.cluster.borrow().clone();
        self.published.send_replace(Arc::new(Published {
            cluster,
            in_force: true,
            ready: true,
            ..Published::default()
        }));
    }

    /// Waits until the task that follows has seen this.
    async fn until(&self, seen: impl Fn(&Record) -> bool) {
        while !seen(&self.health.record()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets a change have waited since then.
    fn pending_for(&self, age: Duration) {
        self.health.record().pending = Instant::now().checked_sub(age);
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = match path {
            "/healthz" => healthz(State(self.health.clone())).await.into_response(),
            _ => livez(State(self.health.clone())).await.into_response(),
        };
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn statuses(&self) -> [u16; 2] {
        [self.get("/healthz").await.0.as_u16(), self.get("/livez").await.0.as_u16()]
    }
}

fn node(value: Value) -> ClusterState {
    let Document::Taken(parsed) = parse::object(Kind::Node, &value) else { panic!("a good node") };
    assert!(matches!(parsed, Parsed { object: Object::Node(_), .. }));
    let mut cluster = ClusterState::default();
    cluster.apply(parsed, Some(Path::new("node.yaml")));
    cluster
}

#[tokio::test]
async fn healthy_from_the_first_list_on() {
    let bed = Bed::new();
    assert_eq!(bed.statuses().await, [503, 200]);
    let (_, answer) = bed.get("/healthz").await;
    assert_eq!(answer["healthy"], false);
    assert_eq!(answer["reasons"], json!(["the first full list is not in force yet"]));
    bed.put_in_force();
    bed.until(|record| record.updated.is_some()).await;
    let (status, answer) = bed.get("/healthz").await;
    assert_eq!((status, &answer["healthy"], &answer["nodeEligible"]), (StatusCode::OK, &json!(true), &json!(true)));
    for field in ["lastUpdated", "currentTime"] {
        assert!(answer[field].as_str().unwrap().parse::<Timestamp>().is_ok(), "{answer}");
    }
    for family in ["IPv4", "IPv6"] {
        assert_eq!(answer["status"][family]["healthy"], true);
        assert!(answer["status"][family]["lastUpdated"].is_string());
    }
    assert_eq!(bed.get("/livez").await.1.get("nodeEligible"), None);
    drop(bed.tasks);
}

#[tokio::test]
async fn whatever_the_method_is() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bed = Bed::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(serve(listener, bed.health.clone(), Guests::new(descriptors::share().strangers)));
    for (request, answer) in [
        ("GET /healthz", "HTTP/1.1 503 "),
        ("POST /healthz", "HTTP/1.1 503 "),
        ("HEAD /livez", "HTTP/1.1 200 "),
        ("PUT /livez", "HTTP/1.1 200 "),
        ("GET /other", "HTTP/1.1 404 "),
    ] {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: gw-1\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(answer), "{request}{text}");
    }
    served.abort();
}

#[tokio::test]
async fn a_change_may_wait_for_a_minute() {
    let bed = Bed::new();
    bed.put_in_force();
    bed.until(|record| record.updated.is_some()).await;
    bed.know(node(json!({"metadata": {"name": "other"}})));
    bed.until(|record| record.pending.is_some()).await;
    assert_eq!(bed.statuses().await, [200, 200]);
    bed.pending_for(STALE);
    assert_eq!(bed.statuses().await, [503, 503]);
    assert_eq!(bed.get("/healthz").await.1["status"]["IPv6"]["healthy"], false);
    bed.put_in_force();
    bed.until(|record| record.pending.is_none()).await;
    assert_eq!(bed.statuses().await, [200, 200]);
}

#[tokio::test]
async fn a_node_that_is_about_to_go_gets_no_more_traffic_and_lives_on() {
    let taint =
        |key: &str| json!({"metadata": {"name": "gw-1"}, "spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
    let deleted = json!({"metadata": {"name": "gw-1", "deletionTimestamp": "2026-01-02T03:04:05Z"}});
    for (cluster, healthz) in [
        (node(taint("ToBeDeletedByClusterAutoscaler")), 503),
        (node(taint("other")), 200),
        (node(deleted), 503),
        (node(json!({"metadata": {"name": "gw-1"}})), 200),
        // It is gone.
        (ClusterState::default(), 503),
    ] {
        let bed = Bed::new();
        bed.know(node(json!({"metadata": {"name": "gw-1"}})));
        bed.put_in_force();
        bed.until(|record| record.node_seen).await;
        bed.know(cluster);
        bed.put_in_force();
        bed.until(|record| record.updated.is_some()).await;
        let (status, answer) = bed.get("/healthz").await;
        assert_eq!((status.as_u16(), &answer["nodeEligible"]), (healthz, &json!(healthz == 200)));
        assert_eq!(answer["healthy"], true, "the proxy itself is");
        assert_eq!(bed.get("/livez").await.0, StatusCode::OK);
    }
    // Not every gateway has a Node object.
    let bed = Bed::new();
    bed.put_in_force();
    assert_eq!(bed.statuses().await, [200, 200]);
}

#[tokio::test]
async fn a_loop_that_makes_no_progress_ends_both_and_is_named() {
    let bed = Bed::new();
    bed.put_in_force();
    bed.until(|record| record.updated.is_some()).await;
    let heart = bed.hearts.heart("the files", None);
    while bed.hearts.silent().is_empty() {
        assert_eq!(bed.statuses().await, [200, 200]);
        bed.hearts.turn();
    }
    assert_eq!(bed.statuses().await, [503, 503]);
    for path in ["/healthz", "/livez"] {
        assert_eq!(bed.get(path).await.1["reasons"], json!(["no progress for 8 s: the files"]), "{path}");
    }
    heart.beat();
    assert_eq!(bed.statuses().await, [200, 200]);
}

#[tokio::test]
async fn without_a_way_out_traffic_should_go_elsewhere_and_a_restart_would_not_help() {
    let bed = Bed::new();
    bed.put_in_force();
    bed.until(|record| record.updated.is_some()).await;
    bed.interfaces.send_replace(Arc::from([InterfaceReport { up: false, ..up() }]));
    assert_eq!(bed.statuses().await, [503, 200]);
    let reason = "no packet can leave: every interface is down or not attached (eth0: down)";
    assert_eq!(bed.get("/healthz").await.1["reasons"], json!([reason]));
    bed.interfaces.send_replace(Arc::from([InterfaceReport { up: false, ..up() }, up()]));
    assert_eq!(bed.statuses().await, [200, 200]);
}
