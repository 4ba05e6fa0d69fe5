//! What an explanation says of the flow that the connection would open, of an instance that runs.

use ringway_shared::{DropReason, FiveTuple, Protocol};

use super::{Trace, TraceVerdict};
use crate::flow::{OpenError, Prospect};

/// What each worker says, with its number.
pub type Prospects = [(u16, Result<Prospect, OpenError>)];

impl Trace {
    /// Why the connection is dropped, whichever worker gets its packet.
    pub fn objection(&self, tuple: &FiveTuple, prospects: &Prospects) -> Option<DropReason> {
        let all_object = prospects.iter().all(|(_, found)| self.reason(tuple, found).is_some());
        prospects.first().filter(|_| all_object).and_then(|(_, found)| self.reason(tuple, found))
    }

    fn reason(&self, tuple: &FiveTuple, found: &Result<Prospect, OpenError>) -> Option<DropReason> {
        match found {
            Err(OpenError::PortsExhausted) => Some(DropReason::SnatPortsExhausted),
            Err(OpenError::TableFull) if self.masquerade || tuple.protocol() != Protocol::Udp => {
                Some(DropReason::FlowTableFull)
            }
            _ => None,
        }
    }

    /// The verdict and the steps that follow from what all workers say, each of which may be the one that gets the packet.
    pub fn tell_prospects(&mut self, tuple: &FiveTuple, prospects: &Prospects) {
        if self.verdict != TraceVerdict::Forward {
            return;
        }
        if let Some(reason) = self.objection(tuple, prospects) {
            self.die(TraceVerdict::Drop, reason);
            return;
        }
        let workers = |meant: &dyn Fn(&Result<Prospect, OpenError>) -> bool| {
            let meant: Vec<String> =
                prospects.iter().filter(|(_, found)| meant(found)).map(|(id, _)| id.to_string()).collect();
            match &meant[..] {
                [] => None,
                _ if meant.len() == prospects.len() => Some(String::new()),
                [one] => Some(format!(" where the packet comes to worker {one}")),
                several => Some(format!(" where the packet comes to one of the workers {}", several.join(", "))),
            }
        };
        let told = [
            (
                workers(&|found| self.reason(tuple, found) == Some(DropReason::SnatPortsExhausted)),
                "No SNAT port is to be had{}: another worker may take it over, else it is dropped (snat_ports_exhausted).",
            ),
            (
                workers(&|found| self.reason(tuple, found) == Some(DropReason::FlowTableFull)),
                "The flow table is full of established flows{}: it is dropped there (flow_table_full).",
            ),
            (
                workers(&|found| *found == Err(OpenError::TableFull) && self.reason(tuple, found).is_none()),
                "The flow table is full of established flows{}: it goes on without a flow, by the Maglev table alone.",
            ),
            (
                workers(&|found| found.is_ok_and(|found| found.reclaims)),
                "No SNAT port is free{}: it gets that of a flow that is closed, half-open, unreplied or a silent one over UDP.",
            ),
            (
                workers(&|found| found.is_ok_and(|found| found.evicts)),
                "The flow table is full{}: a flow that is not established ends for it.",
            ),
        ];
        let told = told.into_iter().filter_map(|(where_, text)| Some(text.replace("{}", &where_?)));
        self.steps.extend(told.collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Result<Prospect, OpenError> = Ok(Prospect { reclaims: false, evicts: false });
    const TAKES: Result<Prospect, OpenError> = Ok(Prospect { reclaims: true, evicts: false });
    const EVICTS: Result<Prospect, OpenError> = Ok(Prospect { reclaims: false, evicts: true });
    const NO_PORT: Result<Prospect, OpenError> = Err(OpenError::PortsExhausted);
    const FULL: Result<Prospect, OpenError> = Err(OpenError::TableFull);

    /// The verdict, the reason or the first words of the step.
    fn told(protocol: &str, masquerade: bool, prospects: &[Result<Prospect, OpenError>]) -> (TraceVerdict, String) {
        let question: super::super::Question = format!("{protocol}:10.0.0.2:1->172.30.0.41:80").parse().unwrap();
        let verdict = TraceVerdict::Forward;
        let mut trace = Trace { verdict, masquerade, chosen: Some("10.1.0.1:80".into()), ..Trace::new(&question.text) };
        let prospects: Vec<_> = (0..).zip(prospects.iter().copied()).collect();
        trace.tell_prospects(&question.tuple, &prospects);
        assert_eq!(trace.chosen.is_some(), trace.verdict == TraceVerdict::Forward);
        (trace.verdict, trace.reason.unwrap_or_else(|| trace.steps.join(" ").split(':').next().unwrap().to_owned()))
    }

    #[test]
    fn a_connection_that_no_worker_could_open_is_dropped() {
        use TraceVerdict::{Drop, Forward};
        let said = |verdict, text: &str| (verdict, text.to_owned());
        assert_eq!(told("tcp", true, &[FREE]), said(Forward, ""));
        assert_eq!(told("tcp", true, &[NO_PORT]), said(Drop, "snat_ports_exhausted"));
        assert_eq!(told("udp", true, &[NO_PORT, NO_PORT]), said(Drop, "snat_ports_exhausted"));
        let one = "No SNAT port is to be had where the packet comes to worker 1";
        assert_eq!(told("tcp", true, &[FREE, NO_PORT]), said(Forward, one));
        let several = "No SNAT port is to be had where the packet comes to one of the workers 0, 2";
        assert_eq!(told("tcp", true, &[NO_PORT, FREE, NO_PORT]), said(Forward, several));
        assert_eq!(told("tcp", true, &[TAKES]), said(Forward, "No SNAT port is free"));
        assert_eq!(told("tcp", false, &[FULL]), said(Drop, "flow_table_full"));
        assert_eq!(told("udp", true, &[FULL]), said(Drop, "flow_table_full"));
        assert_eq!(told("udp", false, &[FULL]), said(Forward, "The flow table is full of established flows"));
        assert_eq!(told("sctp", false, &[EVICTS]), said(Forward, "The flow table is full"));
        // Nobody answered.
        assert_eq!(told("tcp", true, &[]), said(Forward, ""));
    }
}
