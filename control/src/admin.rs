//! The admin socket: HTTP with JSON on a Unix socket, for root alone. `docs/admin-api.md` describes it.

mod ask;
mod drain;
mod ports;
mod socket;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query as UrlQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ringway_dataplane::af_xdp::program::LeftFragments;
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Clock;
use ringway_dataplane::handover::Mesh;
use ringway_dataplane::trace::{Asked, Question, TraceVerdict, View, explain_with};
use ringway_shared::Snapshot;
use ringway_shared::counters::{Tally, WorkerCounters};
use ringway_shared::suspects::Suspects;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::config::Source;
use crate::daemon::Workers;
use crate::daemon::reload::{Loaded, Reloads};
use crate::door;
use crate::door::guests::Guests;
use crate::drain::keeper::Keeper;
use crate::network::counters::CountedInterfaces;
use crate::publish::Published;
use crate::report::answers::AnswerView;
use crate::report::drops::DropsReport;
use crate::report::flows::{Fate, FlowFilter, FlowReport, FlowsReport};
use crate::report::metrics::{self, Format, ServiceSeries, SharedScrape};
use crate::report::neighbors::NeighborReport;
use crate::report::overlooked;
use crate::report::ports::PortUses;
use crate::report::readiness::stuck;
use crate::report::services::ServicesReport;
use crate::report::snat::{node_ports_among, odd_addresses};
use crate::report::status::{Counted, Facts, StatusReport};
use crate::report::worker::WorkerView;
use crate::source::health::SourceHealth;
use crate::watch::{heart, hearts};
use ask::Asker;
pub use socket::{SocketFile, listen};
pub(crate) use socket::{look, unfit};

/// Packets that one request may ask about.
const PACKETS: usize = 10_000;

/// Everything that reports are made from.
pub struct Admin {
    loaded: watch::Receiver<Arc<Loaded>>,
    reloads: Reloads,
    started: Instant,
    workers: Vec<WorkerView>,
    asker: Asker,
    affinities: Arc<Affinities>,
    suspects: Arc<Suspects>,
    clock: Clock,
    left_fragments: Option<Arc<LeftFragments>>,
    interfaces: CountedInterfaces,
    published: watch::Receiver<Arc<Published>>,
    neighbors: watch::Receiver<Arc<NeighborReport>>,
    source: SourceHealth,
    drains: Arc<Keeper>,
    series: Mutex<ServiceSeries>,
    scraped: SharedScrape,
    ports: watch::Sender<Arc<PortUses>>,
}

impl Admin {
    /// Reports about these, and changes what may be changed by asking.
    pub fn new(
        loaded: watch::Receiver<Arc<Loaded>>,
        (reloads, drains): (Reloads, Arc<Keeper>),
        workers: &Workers,
        interfaces: CountedInterfaces,
        published: watch::Receiver<Arc<Published>>,
        neighbors: watch::Receiver<Arc<NeighborReport>>,
        source: SourceHealth,
    ) -> Arc<Self> {
        let mesh: Arc<Mesh> = workers.mesh.clone();
        Arc::new(Admin {
            loaded,
            reloads,
            started: Instant::now(),
            workers: workers.views.clone(),
            asker: Asker::new(&workers.views, mesh),
            affinities: workers.affinities.clone(),
            suspects: workers.suspects.clone(),
            clock: workers.clock,
            left_fragments: workers.left_fragments.clone(),
            interfaces,
            published,
            neighbors,
            source,
            drains,
            series: Mutex::default(),
            scraped: SharedScrape::default(),
            ports: watch::Sender::default(),
        })
    }

    fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    fn answers<'a>(&'a self, published: &'a Published, counters: &'a [Arc<WorkerCounters>]) -> AnswerView<'a> {
        let suspects = self.loaded.borrow().config.flows.syn_rescue.then_some(&*self.suspects);
        AnswerView { published, counters, suspects, now: self.clock.tick().millis() }
    }

    fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        self.workers.iter().for_each(|worker| sum.merge(&worker.counters.read()));
        sum
    }

    /// `GET /status`.
    pub fn status(&self) -> StatusReport {
        let loaded = self.loaded.borrow().clone();
        let config = &loaded.config;
        let files = match &config.source {
            Source::Files(paths) => paths.iter().map(|path| path.display().to_string()).collect(),
            Source::Kubernetes { .. } => Vec::new(),
        };
        let (published, interfaces, neighbors) = (self.published(), self.interfaces.now(), self.neighbors.borrow());
        let facts = Facts {
            node: &config.node_name,
            configuration: loaded.report(&interfaces, &published),
            files,
            kubernetes: self.source.report(),
            source_age: self.source.age(),
            uptime_seconds: self.started.elapsed().as_secs(),
            flows_per_worker: config.flows.per_worker,
            snat_ports: config.snat.ports.clone(),
            stuck: stuck(&hearts().silent()).collect(),
        };
        let count = |worker: &WorkerView| Counted {
            id: worker.id,
            cpu: worker.cpu,
            memory: worker.memory,
            tally: worker.counters.read(),
        };
        let workers: Vec<Counted> = self.workers.iter().map(count).collect();
        let mut report = StatusReport::of(&facts, &published, &interfaces, &neighbors, &workers);
        let counters: Vec<_> = self.workers.iter().map(|worker| worker.counters.clone()).collect();
        let view = self.answers(&published, &counters);
        let uses = self.port_uses();
        (report.snat.endpoints, report.limits) = (uses.fullest(), uses.warnings());
        let Snapshot { services, network, .. } = &published.snapshot;
        if published.ready {
            report.snat.notes = odd_addresses(&config.snat.addresses, services, |address| network.is_local(address));
            if !config.snat.ports_are_free {
                report.snat.notes.extend(node_ports_among(&config.snat.ports, services));
            }
        }
        report.drained = self.drained();
        report.steering.fragments_left = self.left_fragments.as_ref().map_or(0, |left| left.count());
        (report.unanswering, report.unanswering_count) = view.all_unanswering();
        report.suspected_count = view.suspected();
        if published.ready {
            let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            report.metrics_problems = series.problems(&config.measured, &published.snapshot.services);
        }
        report
    }

    /// `GET /services`.
    pub async fn services(&self) -> ServicesReport {
        let counters: Vec<_> = self.workers.iter().map(|worker| worker.counters.clone()).collect();
        let published = self.published();
        let view = self.answers(&published, &counters);
        let mut report = ServicesReport::of(&view);
        self.port_uses().note(&mut report);
        self.note_shared(&mut report).await;
        report
    }

    /// Before the first list is in force nobody knows what is served: to say that nothing is would be untrue.
    fn unready(&self) -> Option<Response> {
        if self.published.borrow().ready {
            return None;
        }
        let error = "not ready: the first full list of objects is not in force yet; ringway status says what is missing, and \
                     ringway status --wait waits for it";
        Some((StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response())
    }

    /// `GET /drops`.
    pub fn drops(&self) -> DropsReport {
        DropsReport::of(&self.sum(), &self.interfaces.now())
    }

    /// `GET /metrics`.
    pub fn metrics(&self) -> Result<String, std::fmt::Error> {
        let mut all = metrics::metrics(&self.status(), &self.sum());
        let counters: Vec<_> = self.workers.iter().map(|worker| worker.counters.clone()).collect();
        let (published, config) = (self.published(), self.loaded.borrow().config.clone());
        let view = self.answers(&published, &counters);
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(series.read(&config.measured, &view));
        drop(series);
        metrics::render(all)
    }

    /// `GET /flows`; refused when no flow can ever be such a one.
    pub async fn flows(&self, filter: &FlowFilter) -> Result<FlowsReport, String> {
        filter.check()?;
        let published = self.published();
        if let Some(wanted) = &filter.service
            && !published.cluster.services().any(|service| service.name.to_string() == *wanted)
        {
            return Err(format!("the instance knows no Service {wanted}; ringway services lists those there are"));
        }
        let total = self.sum().get(ringway_shared::counters::Counter::Flows);
        Ok(self.asker.flows(filter, &published.snapshot.services, total).await)
    }

    /// `POST /trace`: for each packet what offline trace says, and the flow that it belongs to if there is one.
    pub async fn trace(&self, packets: &[String]) -> Result<Vec<Value>, String> {
        let read = |text: &String| text.parse::<Question>().map_err(|error| format!("PACKET {text:?}: {error}"));
        let questions = packets.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let published = self.published();
        let snapshot = &published.snapshot;
        let config = self.loaded.borrow().config.clone();
        let view = View {
            services: &snapshot.services,
            network: Some(&snapshot.network),
            snat_addresses: &config.snat.addresses,
            affinities: Some((&self.affinities, self.clock.tick())),
            rescue: config.flows.syn_rescue,
            suspects: Some((&self.suspects, self.clock.tick())),
        };
        let (mut answers, mut looks) = (Vec::new(), ports::LOOKS);
        for question in &questions {
            // Without its source port a packet names no flow.
            let found = match question.flow_tuple() {
                Some(tuple) => self.asker.lookup(tuple).await,
                None => None,
            };
            let mut trace = explain_with(&view, question, found.as_ref().map(|(_, flow, _)| flow));
            if question.kind == Asked::Connection {
                self.tell_opening(&mut trace, question, &view, (found.is_some(), &snapshot.services)).await;
            }
            overlooked::tell(&mut trace, question, &published.cluster, &snapshot.services);
            if question.kind == Asked::Connection {
                self.tell_shared(&mut trace, question, &mut looks).await;
            }
            let is_seen = published.lingering.contains(&question.tuple.destination_address());
            let is_passed = trace.verdict == TraceVerdict::Pass && !is_seen;
            let flow = found.map(|(worker, flow, now)| {
                let report = FlowReport::of(worker, &flow, &snapshot.services, now);
                if question.kind == Asked::Connection {
                    trace.steps.push(report.sentence(Fate::of(&flow, &snapshot.services, is_passed)));
                }
                report
            });
            let mut answer = serde_json::to_value(trace).map_err(|error| error.to_string())?;
            if let Value::Object(keys) = &mut answer {
                keys.insert("flow".into(), json!(flow));
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// Answers until the task ends.
pub(crate) async fn serve(listener: UnixListener, admin: Arc<Admin>, guests: Arc<Guests>) {
    let routes = || {
        Router::new()
            .route("/status", get(status))
            .route("/services", get(services))
            .route("/flows", get(flows))
            .route("/drops", get(drops))
            .route("/metrics", get(scrape))
            .route("/trace", post(trace))
            .route("/reload", post(reload))
            .route("/drained", get(drain::drained))
            .route("/drain", post(drain::drain))
            .route("/undrain", post(drain::undrain))
    };
    let router = routes().nest("/v1", routes()).fallback(unknown).with_state(admin);
    heart("the admin socket").waiting(door::serve("admin.socket", listener, router, guests)).await;
}

/// Answers Prometheus, and nothing else, until the task ends.
pub(crate) async fn serve_metrics(listener: TcpListener, admin: Arc<Admin>, guests: Arc<Guests>) {
    let router = Router::new().route("/metrics", get(shared_scrape)).with_state(admin);
    door::serve("admin.metrics", listener, router, guests).await;
}

async fn scrape(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    scraped(admin.metrics(), &headers)
}

async fn shared_scrape(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    scraped(admin.scraped.get(Instant::now(), || admin.metrics()), &headers)
}

fn scraped(text: Result<String, std::fmt::Error>, headers: &HeaderMap) -> Response {
    let wanted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::wanted(&wanted.collect::<Vec<_>>().join(","));
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], format.of(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<StatusReport> {
    Json(admin.status())
}

async fn services(State(admin): State<Arc<Admin>>) -> Result<Json<ServicesReport>, Response> {
    if let Some(unready) = admin.unready() {
        return Err(unready);
    }
    Ok(Json(admin.services().await))
}

async fn drops(State(admin): State<Arc<Admin>>) -> Json<DropsReport> {
    Json(admin.drops())
}

async fn flows(
    State(admin): State<Arc<Admin>>,
    filter: Result<UrlQuery<FlowFilter>, QueryRejection>,
) -> Result<Json<FlowsReport>, Response> {
    let UrlQuery(filter) = filter.map_err(|error| wrong(error.body_text()))?;
    if let Some(unready) = admin.unready().filter(|_| filter.service.is_some()) {
        return Err(unready);
    }
    admin.flows(&filter).await.map(Json).map_err(wrong)
}

/// The body of `POST /trace`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packets {
    packets: Vec<String>,
}

async fn trace(
    State(admin): State<Arc<Admin>>,
    body: Result<Json<Packets>, JsonRejection>,
) -> Result<Json<Vec<Value>>, Response> {
    if let Some(unready) = admin.unready() {
        return Err(unready);
    }
    let Json(Packets { packets }) = body.map_err(|error| wrong(error.body_text()))?;
    if packets.len() > PACKETS {
        return Err(wrong(format!("{} packets, and {PACKETS} are the most; ask again for the rest", packets.len())));
    }
    admin.trace(&packets).await.map(Json).map_err(wrong)
}

/// 422 when the file is wrong: nothing changed then.
async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    match admin.reloads.ask().await {
        Ok(report) => Json(report).into_response(),
        Err(error) => {
            let status = match error.is_configuration {
                true => StatusCode::UNPROCESSABLE_ENTITY,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, Json(json!({ "error": error.text }))).into_response()
        }
    }
}

fn wrong(error: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

async fn unknown() -> Response {
    let error = "there is GET /status, /services, /flows, /drops, /drained, /metrics and POST /trace, /drain, /undrain, /reload";
    (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
}
