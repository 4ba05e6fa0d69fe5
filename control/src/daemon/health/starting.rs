//! Health while a start takes its time: attaching may take drivers minutes, and whoever supervises must not take that for a process
//! that hangs.

use std::net::TcpListener as StdListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONNECTION;
use axum::response::IntoResponse;
use axum::routing::any;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::reply;
use crate::door;
use crate::door::guests::{Guests, Room};
use crate::report::readiness::stuck;
use crate::watch::Hearts;

/// Connections at a time: a supervisor or two.
const ROOM: Room =
    Room { at_one_door: 16, in_all: 16, silent: Duration::from_secs(10), asked: Duration::from_secs(10) };
/// Why traffic should go elsewhere.
const STARTING: &str = "starting: interfaces are being attached";

/// Whoever answers until the start is over, or this is dropped.
pub(in crate::daemon) struct Meanwhile(Option<JoinHandle<()>>);

impl Meanwhile {
    /// Answers on this runtime at a listener that somebody else has as well, and does nothing with yet.
    pub(in crate::daemon) fn answer(
        listener: Option<&TcpListener>,
        runtime: &Handle,
        hearts: Hearts,
    ) -> std::io::Result<Self> {
        let Some(listener) = listener else { return Ok(Meanwhile(None)) };
        let listener = StdListener::from(listener.as_fd().try_clone_to_owned()?);
        let router =
            Router::new().route("/healthz", any(healthz)).route("/livez", any(livez)).with_state(Arc::new(hearts));
        let answering = async move {
            // The listener's events come from the runtime that answers.
            match TcpListener::from_std(listener) {
                Ok(listener) => door::serve("admin.healthz", listener, router, Guests::new(ROOM)).await,
                Err(error) => tracing::warn!("health checks get no answer until Ringway has started: {error}"),
            }
        };
        Ok(Meanwhile(Some(runtime.spawn(answering))))
    }

    /// Others answer from now on.
    pub(in crate::daemon) async fn end(mut self) {
        if let Some(answering) = self.0.take() {
            answering.abort();
            // That it was ended is no news.
            let _ = answering.await;
        }
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn healthz(State(hearts): State<Arc<Hearts>>) -> impl IntoResponse {
    let stuck: Vec<String> = stuck(&hearts.silent()).collect();
    last(reply(false, answer(false, [STARTING.to_owned()].into_iter().chain(stuck).collect())))
}

async fn livez(State(hearts): State<Arc<Hearts>>) -> impl IntoResponse {
    let stuck: Vec<String> = stuck(&hearts.silent()).collect();
    let alive = stuck.is_empty();
    let mut answer = answer(alive, stuck);
    answer["watched"] = hearts.names().into();
    last(reply(alive, answer))
}

/// The connection ends with the answer: others may take what is asked next.
fn last(answer: impl IntoResponse) -> impl IntoResponse {
    ([(CONNECTION, "close")], answer)
}

/// kube-proxy's fields, before anything is in force.
fn answer(healthy: bool, reasons: Vec<String>) -> Value {
    let family = json!({"lastUpdated": null, "healthy": healthy});
    json!({
        "lastUpdated": null,
        "currentTime": Timestamp::now().to_string(),
        "healthy": healthy,
        "reasons": reasons,
        "status": {"IPv4": family, "IPv6": family},
        "starting": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::health::listen;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // To its end, since the connection is for this question only: who kept it would be cut when the start is over.
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_that_starts_is_alive_and_not_ready_until_others_answer() {
        let listener = listen("admin.healthz", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let meanwhile = Meanwhile::answer(Some(&listener), &Handle::current(), Hearts::default()).unwrap();
        let alive = ask(address, "/livez").await;
        assert!(alive.starts_with("HTTP/1.1 200 OK") && alive.contains("\"starting\":true"), "{alive}");
        let ready = ask(address, "/healthz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(STARTING), "{ready}");
        meanwhile.end().await;
        // The listener is still there, and nobody else takes who comes now.
        let asking = tokio::spawn(tokio::net::TcpStream::connect(address));
        listener.accept().await.unwrap();
        asking.await.unwrap().unwrap();
    }
}
