//! What the packet path takes from the configuration: the same for `run` and for `replay`.

use ringway_dataplane::config::{PipelineConfig, Settings, port_share};
use ringway_dataplane::flow::FlowConfig;

use super::Config;

/// Packets that a worker itself generates, a second.
const REPLIES_PER_SECOND: u32 = 1_000;

impl Config {
    /// What a worker takes while it runs.
    pub fn settings(&self) -> Settings {
        let rescue = self.flows.syn_rescue;
        Settings { timeouts: self.flows.timeouts, snat_addresses: self.snat.addresses.clone(), rescue }
    }

    /// The settings of worker number `worker` of `workers`.
    pub fn pipeline(&self, worker: u16, workers: u16) -> PipelineConfig {
        PipelineConfig {
            worker,
            workers,
            snat_addresses: self.snat.addresses.clone(),
            snat_ports: self.snat.ports.clone(),
            replies_per_second: REPLIES_PER_SECOND,
            rescue: self.flows.syn_rescue,
        }
    }

    /// The flow table of worker number `worker` of `workers`; `None` when there are fewer SNAT ports than workers.
    pub fn flow_table(&self, worker: u16, workers: u16, seed: u64) -> Option<FlowConfig> {
        let snat_ports = port_share(&self.snat.ports, worker, workers)?;
        Some(FlowConfig { capacity: self.flows.per_worker, seed, timeouts: self.flows.timeouts, snat_ports })
    }
}
