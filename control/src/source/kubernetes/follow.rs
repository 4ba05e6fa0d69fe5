//! Follows one kind of objects: list, watch, and what to do when either fails.

use std::time::{Duration, Instant};

use futures::{AsyncBufRead, TryStreamExt};
use http_body_util::BodyExt;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::backoff::{Backoff, random, vary};
use super::connect::Connection;
use super::fault::{Fault, Remedy};
use super::limits::{Limits, Listing};
use super::object::{self, Event, PageMetadata};
use super::page::{PageReader, Part};
use super::post::{Abandoned, News, Post};
use super::read::{Body, Line};
use super::{Patience, SourceHealth};
use crate::parse::{Document, Kind};

/// A watch that lasted this long was a good one, whatever ended it.
const GOOD_WATCH: Duration = Duration::from_secs(30);

/// How long the API server is asked to keep a watch open, in seconds; varied, so that not all end at once.
const WATCH_SECONDS: std::ops::Range<u32> = 240..290;

/// The longest version of an object, and the longest place to go on from, that make sense.
const LONGEST_VERSION: usize = 256;
const LONGEST_PLACE: usize = 16 << 10;

/// Why a watch ended.
enum End {
    /// The API server closed it, as it does after a while.
    Closed,
    /// Nothing came for a while. A connection that broke without a word looks like that, and so does an API server that has
    /// nothing to say: after its start it sends no bookmarks of a kind before something of that kind changes.
    Silence,
    /// It failed.
    Fault(Fault),
    /// Nobody waits for news any more.
    Abandoned,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        End::Fault(fault)
    }
}

/// Follows one kind of objects.
pub(super) struct Follower {
    client: kube::Client,
    server: String,
    kind: Kind,
    request: Request,
    selection: ListParams,
    /// Of the Nodes, the one that is asked for.
    node: String,
    patience: Patience,
    limits: Limits,
    health: SourceHealth,
    news: Post,
    backoff: Backoff,
    /// For lists that follow one another, and when the last one was complete.
    relists: Backoff,
    listed: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        connection: &Connection,
        kind: Kind,
        node: &str,
        (patience, limits): (Patience, Limits),
        health: SourceHealth,
        news: Post,
    ) -> Self {
        let (client, server) = (connection.client.clone(), connection.server.clone());
        let (request, selection) = (Request::new(path(kind)), selection(kind, node));
        let [backoff, relists] = [(); 2].map(|()| Backoff::new(patience.first_pause));
        let (node, listed) = (node.to_owned(), None);
        Follower {
            client,
            server,
            kind,
            request,
            selection,
            node,
            patience,
            limits,
            health,
            news,
            backoff,
            relists,
            listed,
        }
    }

    /// Follows until nobody waits for news any more.
    pub(super) async fn run(mut self) {
        loop {
            let followed = match self.list().await {
                Ok((objects, version)) => self.take_list(objects, version).await,
                Err(fault) => self.back_off(fault).await,
            };
            if followed.is_err() {
                return;
            }
        }
    }

    async fn take_list(&mut self, objects: Vec<Document>, version: String) -> Result<(), Abandoned> {
        self.health.listed(self.kind);
        self.listed = Some(Instant::now());
        self.is_well();
        tracing::debug!(kind = self.kind.label(), objects = objects.len(), version, "listed");
        self.tell(News::Listed(self.kind, objects)).await?;
        self.watch(version).await
    }

    /// All objects, page by page, and the version to watch from.
    async fn list(&self) -> Result<(Vec<Document>, String), Fault> {
        let listed = timeout(self.patience.list, self.pages()).await;
        listed.unwrap_or_else(|_| Err(Fault::endless(self.patience.list)))
    }

    async fn pages(&self) -> Result<(Vec<Document>, String), Fault> {
        let mut listing = Listing::new(self.kind, self.limits);
        let mut params = self.selection.clone().limit(self.patience.page);
        loop {
            let request = self.request.list(&params).map_err(|error| Fault::garbled(error.to_string()))?;
            let mut body = Body::new(self.send(request, "list").await?, self.patience.answer);
            let mut page = PageReader::new(self.limits.object);
            let mut take = |piece: &[u8]| {
                self.health.heard(self.kind);
                listing.read(piece.len())?;
                page.read(piece, |part| self.object(part).map_or(Ok(()), |object| listing.take(object)))
            };
            while body.piece(&mut take).await? {}
            let head = page.finish()?;
            if let Some(strange) = object::strange_list(self.kind, &head) {
                return Err(Fault::garbled(strange));
            }
            let PageMetadata { resource_version, rest } =
                PageMetadata::of(&head).map_err(|error| Fault::garbled(error.to_string()))?;
            match rest.filter(|rest| !rest.is_empty()) {
                Some(rest) if rest.len() > LONGEST_PLACE => {
                    return Err(Fault::garbled(format!("a continue token of {} bytes", rest.len())));
                }
                Some(rest) => {
                    listing.goes_on(&rest)?;
                    params.continue_token = Some(rest);
                }
                None if resource_version.is_empty() || resource_version.len() > LONGEST_VERSION => {
                    return Err(Fault::garbled("a list without resourceVersion".to_owned()));
                }
                None => return Ok((listing.objects, resource_version)),
            }
        }
    }

    /// An object of a list; `None` for one that was not asked for.
    fn object(&self, part: Part<'_>) -> Option<Document> {
        let document = match part {
            Part::Object(text) => object::decode_bytes(self.kind, text),
            Part::TooLong => {
                let (kind, longest) = (self.kind.label(), self.limits.object);
                Document::Skipped(format!("a {kind} is left out: it is longer than {longest} bytes"))
            }
        };
        self.is_asked_for(&document).then_some(document)
    }

    /// Whether an API server that does not read field selectors would send it all the same.
    fn is_asked_for(&self, document: &Document) -> bool {
        self.kind != Kind::Node || object::key(document).is_none_or(|key| *key.name == *self.node)
    }

    /// Watches from `version` on, as often as it takes, until all must be listed anew.
    async fn watch(&mut self, mut version: String) -> Result<(), Abandoned> {
        loop {
            let began = Instant::now();
            let known = version.clone();
            let end = self.watch_once(&mut version).await;
            let is_long = began.elapsed() >= GOOD_WATCH;
            let was_good = version != known || is_long;
            if was_good {
                self.backoff.reset();
            }
            match end {
                End::Abandoned => return Err(Abandoned),
                End::Closed if is_long => {}
                // It brought something; that it does so all the time must not cost a request each.
                End::Closed if was_good => self.rest(vary(self.patience.first_pause)).await?,
                // What it was, the next attempt will tell.
                End::Silence => {
                    tracing::debug!(kind = self.kind.label(), "nothing was heard for a while; watching anew")
                }
                End::Closed => self.back_off(Fault::hasty()).await?,
                End::Fault(fault) => {
                    // A refused watch may be allowed at any time, and goes on then where it was. What can be done without
                    // is so until it is listed.
                    let is_lost = match fault.remedy {
                        Remedy::List | Remedy::Expired => true,
                        Remedy::Unserved => self.kind == Kind::ServiceCidr,
                        Remedy::Retry => false,
                    };
                    self.back_off(fault).await?;
                    if is_lost {
                        return self.pause_before_list().await;
                    }
                }
            }
        }
    }

    /// Lists are dear: however good what came between them looks, they do not follow one another without a pause.
    async fn pause_before_list(&mut self) -> Result<(), Abandoned> {
        if self.listed.is_none_or(|listed| listed.elapsed() >= GOOD_WATCH) {
            self.relists.reset();
        }
        let pause = self.relists.failed(true, self.patience.longest_pause);
        self.rest(vary(pause)).await
    }

    async fn rest(&self, pause: Duration) -> Result<(), Abandoned> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.news.closed() => Err(Abandoned),
        }
    }

    /// Watches from `version` on, and advances it, until the watch ends.
    async fn watch_once(&mut self, version: &mut String) -> End {
        let params = WatchParams {
            label_selector: self.selection.label_selector.clone(),
            field_selector: self.selection.field_selector.clone(),
            timeout: Some(WATCH_SECONDS.start + random() as u32 % (WATCH_SECONDS.end - WATCH_SECONDS.start)),
            bookmarks: true,
            send_initial_events: false,
        };
        let request = match self.request.watch(&params, version) {
            Ok(request) => request,
            Err(error) => return Fault::garbled(error.to_string()).into(),
        };
        let mut body = match self.send(request, "watch").await {
            Ok(body) => Body::new(body, self.patience.quiet),
            Err(fault) => return fault.into(),
        };
        self.health.heard(self.kind);
        self.is_well();
        let mut line = Vec::new();
        loop {
            match body.line(&mut line, self.limits.object, self.patience.answer).await {
                Ok(Line::Whole) => self.health.heard(self.kind),
                Ok(Line::End) => return End::Closed,
                Ok(Line::Silence) => return End::Silence,
                Err(fault) => return fault.into(),
            }
            match self.event(&line) {
                Ok((next, news)) => {
                    tracing::debug!(kind = self.kind.label(), version = next, "event");
                    if let Some(news) = news
                        && self.tell(news).await.is_err()
                    {
                        return End::Abandoned;
                    }
                    // Not before the news is on its way: what is not told must come again.
                    *version = next;
                }
                Err(fault) => return fault.into(),
            }
        }
    }

    /// What a line of a watch says, and the version that is reached with it.
    fn event(&self, line: &[u8]) -> Result<(String, Option<News>), Fault> {
        let event: Event<'_> = serde_json::from_slice(line).map_err(|error| Fault::garbled(error.to_string()))?;
        let Event { type_, object } = event;
        if type_ == "ERROR" {
            return Err(self.error(object));
        }
        let missing = || Fault::garbled(format!("an event {type_:?} without resourceVersion"));
        let (document, version) = match &*type_ {
            "ADDED" | "MODIFIED" | "DELETED" => {
                let (document, version) = object::decode_event(self.kind, object);
                (Some(document), version)
            }
            _ => (None, object::version(object)),
        };
        let version = version.filter(|version| version.len() <= LONGEST_VERSION).ok_or_else(missing)?;
        let news = match document {
            None if type_ != "BOOKMARK" => return Err(Fault::garbled(format!("an event of the type {type_:?}"))),
            None => match object::stranger(self.kind, object.get()) {
                Some(strange) => return Err(Fault::garbled(format!("a bookmark: {strange}"))),
                None => None,
            },
            Some(Document::Skipped(why)) if type_ == "DELETED" => {
                return Err(Fault::garbled(format!("a deleted object: {why}")));
            }
            Some(document) if type_ == "DELETED" => {
                let nameless = || Fault::garbled("a deleted object without a name".to_owned());
                Some(News::Deleted(object::key(&document).cloned().ok_or_else(nameless)?))
            }
            Some(document) => self.is_asked_for(&document).then_some(News::Changed(self.kind, document)),
        };
        if news.is_some() {
            self.health.changed(self.kind);
        }
        Ok((version, news))
    }

    /// The API server ends a watch with an error in its stream.
    fn error(&self, object: &RawValue) -> Fault {
        match serde_json::from_str::<Status>(object.get()) {
            Ok(status) => Fault::of_status(&status, self.kind, "watch"),
            Err(error) => Fault::garbled(error.to_string()),
        }
    }

    async fn send(
        &self,
        request: hyper::Request<Vec<u8>>,
        verb: &str,
    ) -> Result<impl AsyncBufRead + Unpin + use<>, Fault> {
        let answer = timeout(self.patience.answer, self.client.send(request.map(Into::into))).await;
        let answer = answer.map_err(|_| Fault::silent(self.patience.answer))?;
        let answer = answer.map_err(|error| Fault::of_request(&error))?;
        let code = answer.status();
        let body = answer.into_body().into_data_stream().map_err(std::io::Error::other).into_async_read();
        if code.is_success() {
            return Ok(Box::pin(body));
        }
        let complaint = Body::new(Box::pin(body), self.patience.answer).complaint().await;
        Err(Fault::of_answer(code.as_u16(), &complaint, self.kind, verb))
    }

    /// Says what is wrong, once, and waits before the next attempt.
    async fn back_off(&mut self, fault: Fault) -> Result<(), Abandoned> {
        let Fault { remedy, text, retry_after, answered } = fault;
        let mut longest = self.patience.longest_pause;
        match remedy {
            Remedy::Unserved if self.kind == Kind::ServiceCidr => {
                self.health.unserved(self.kind, &text);
                self.tell(News::Unserved(self.kind, text)).await?;
                longest = self.patience.longest_pause_unserved;
            }
            Remedy::Expired => tracing::info!("{}: {text}; all is listed anew", self.kind.label()),
            Remedy::Retry | Remedy::List | Remedy::Unserved => {
                let text = format!("API server {}: {text}", self.server);
                if self.health.begin_trouble(self.kind, &text) {
                    tracing::warn!("{text}; the objects stay as they are, and it is tried again");
                } else {
                    tracing::debug!(kind = self.kind.label(), "{text}");
                }
            }
        }
        let pause = vary(self.backoff.failed(answered, longest)).max(retry_after.unwrap_or_default());
        self.rest(pause).await
    }

    fn is_well(&self) {
        if let Some(lasted) = self.health.end_trouble(self.kind) {
            tracing::info!("API server {}: answers again after {:.1} s", self.server, lasted.as_secs_f64());
        }
    }

    async fn tell(&self, news: News) -> Result<(), Abandoned> {
        self.news.send(news).await
    }
}

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "/api/v1/services",
        Kind::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
        Kind::Node => "/api/v1/nodes",
        Kind::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
    }
}

/// Which objects are asked for. Services that do not count are asked for all the same: `services` says why.
fn selection(kind: Kind, node: &str) -> ListParams {
    match kind {
        Kind::EndpointSlice => ListParams::default().labels("!service.kubernetes.io/headless"),
        Kind::Node => ListParams::default().fields(&format!("metadata.name={node}")),
        Kind::Service | Kind::ServiceCidr => ListParams::default(),
    }
}
