//! `POST /drain`, `POST /undrain`, `GET /drained`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use serde::Deserialize;

use super::{Admin, wrong};
use crate::drain::{Drained, Target};
use crate::report::drained::{DrainReport, DrainedReport};

/// How long it may take until all workers know.
const PATIENCE: Duration = Duration::from_secs(5);
/// Endpoints in one question.
const MOST: usize = 4096;

/// The body of `POST /drain`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainQuestion {
    endpoints: Vec<String>,
    #[serde(default)]
    keep: bool,
}

/// The body of `POST /undrain`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UndrainQuestion {
    #[serde(default)]
    endpoints: Vec<String>,
    #[serde(default)]
    all: bool,
}

fn targets(texts: &[String]) -> Result<Vec<Target>, String> {
    if texts.len() > MOST {
        return Err(format!("{} endpoints, and {MOST} are the most; ask again for the rest", texts.len()));
    }
    texts.iter().map(|text| text.parse::<Target>().map_err(|error| error.to_string())).collect()
}

impl Admin {
    /// What is drained.
    pub(super) fn drained(&self) -> Vec<DrainedReport> {
        DrainedReport::all(&self.drains.list(), &self.published().snapshot.services)
    }

    /// That each of these is an endpoint of some Service: else somebody has mistyped it.
    fn check(&self, targets: &[Target]) -> Result<(), String> {
        let published = self.published();
        let services = &published.snapshot.services;
        let sockets = || services.service_ports.iter().flatten().flat_map(|port| port.endpoints.iter());
        let is_there = |target: &&Target| !sockets().any(|e| target.means(e.backend.address, e.backend.port));
        match targets.iter().find(is_there) {
            Some(target) => {
                Err(format!("no Service has an endpoint {target}; ringway services NAMESPACE/NAME lists them"))
            }
            None => Ok(()),
        }
    }

    /// Waits until all workers know, for a while.
    async fn drained_in_force(&self, is_known: impl Fn(&Drained) -> bool) -> DrainReport {
        let mut published = self.published.clone();
        let known = published.wait_for(|now| now.in_force && is_known(&now.drained));
        let in_force = matches!(tokio::time::timeout(PATIENCE, known).await, Ok(Ok(_)));
        DrainReport { in_force, drained: self.drained() }
    }
}

pub(super) async fn drain(
    State(admin): State<Arc<Admin>>,
    body: Result<Json<DrainQuestion>, JsonRejection>,
) -> Result<Json<DrainReport>, Response> {
    if let Some(unready) = admin.unready() {
        return Err(unready);
    }
    let Json(DrainQuestion { endpoints, keep }) = body.map_err(|error| wrong(error.body_text()))?;
    let targets = targets(&endpoints).map_err(wrong)?;
    admin.check(&targets).map_err(wrong)?;
    tokio::task::block_in_place(|| admin.drains.drain(&targets, keep)).map_err(wrong)?;
    targets.iter().for_each(|target| tracing::info!("{target} is drained: no new connections"));
    Ok(Json(admin.drained_in_force(|now| targets.iter().all(|target| now.names(*target))).await))
}

pub(super) async fn undrain(
    State(admin): State<Arc<Admin>>,
    body: Result<Json<UndrainQuestion>, JsonRejection>,
) -> Result<Json<DrainReport>, Response> {
    if let Some(unready) = admin.unready() {
        return Err(unready);
    }
    let Json(UndrainQuestion { endpoints, all }) = body.map_err(|error| wrong(error.body_text()))?;
    let mut targets = targets(&endpoints).map_err(wrong)?;
    if all {
        targets = admin.drains.list().into_iter().map(|(target, _)| target).collect();
        tokio::task::block_in_place(|| admin.drains.undrain_all()).map_err(wrong)?;
    } else {
        tokio::task::block_in_place(|| admin.drains.undrain(&targets)).map_err(wrong)?;
    }
    targets.iter().for_each(|target| tracing::info!("{target} is not drained any more"));
    let is_gone = |now: &Drained, target: &Target| match target.port {
        None => now.at(target.address).next().is_none(),
        Some(_) => !now.names(*target),
    };
    Ok(Json(admin.drained_in_force(|now| targets.iter().all(|target| is_gone(now, target))).await))
}

pub(super) async fn drained(State(admin): State<Arc<Admin>>) -> Result<Json<DrainReport>, Response> {
    if let Some(unready) = admin.unready() {
        return Err(unready);
    }
    Ok(Json(DrainReport { in_force: admin.published().in_force, drained: admin.drained() }))
}
