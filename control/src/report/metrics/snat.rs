//! SNAT ports as metrics.

use super::{Metric, Number, one};
use crate::report::ports::EndpointPorts;
use crate::report::status::StatusReport;

pub(super) fn ports(status: &StatusReport) -> Vec<Metric> {
    let snat = &status.snat;
    let by_endpoint = |name, help, number: fn(&EndpointPorts) -> u64| Metric {
        name,
        help,
        labels: vec!["protocol", "endpoint", "address"],
        series: snat
            .endpoints
            .iter()
            .map(|ports| {
                let labels = [&ports.protocol, &ports.endpoint, &ports.address].map(String::clone);
                (labels.to_vec(), Number::Gauge(number(ports) as f64))
            })
            .collect(),
    };
    vec![
        one(
            "snat_ports",
            "SNAT ports that all workers together have towards each endpoint, for each SNAT address.",
            Number::Gauge(snat.total as f64),
        ),
        one(
            "snat_ports_per_worker",
            "SNAT ports that a worker has towards each endpoint.",
            Number::Gauge(snat.per_worker as f64),
        ),
        one(
            "snat_ports_high_water",
            "The most SNAT ports that one worker ever used towards one endpoint.",
            Number::Gauge(snat.high_water as f64),
        ),
        one(
            "snat_ports_reclaimed",
            "SNAT ports taken back from half-open, unreplied and silent UDP flows because none was free.",
            Number::Count(snat.reclaimed),
        ),
        by_endpoint(
            "snat_endpoint_ports_used",
            "SNAT ports in use towards the endpoints that use the most, of ringway_snat_ports.",
            |ports| ports.used,
        ),
        by_endpoint(
            "snat_endpoint_ports_high_water",
            "The most SNAT ports that were in use towards these endpoints.",
            |ports| ports.high_water,
        ),
        by_endpoint(
            "snat_endpoint_fullest_worker_percent",
            "Percent in use of the share of the worker that is nearest to its end.",
            |ports| ports.fullest_worker_percent,
        ),
    ]
}
