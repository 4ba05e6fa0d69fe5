//! The running instance's ledger: what became of every packet it received.

use serde_json::Value;
use std::collections::BTreeMap;

/// One ledger, of a worker or of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Packets received.
    pub rx: u64,
    /// Sent on.
    pub forwarded: u64,
    /// Answered by Ringway itself.
    pub replied: u64,
    /// Given to the kernel.
    pub passed: u64,
    /// Waiting for a neighbour or another worker.
    pub held: u64,
    /// Dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

impl Ledger {
    /// Reads `{"rx":..,"forwarded":..,"replied":..,"passed":..,"held":..,"drops":{..}}`.
    pub fn read(value: &Value) -> Result<Ledger, String> {
        let number = |key: &str| value[key].as_u64().ok_or_else(|| format!("a ledger without {key}: {value}"));
        let drops = value["drops"].as_object().ok_or_else(|| format!("a ledger without drops: {value}"))?;
        Ok(Ledger {
            rx: number("rx")?,
            forwarded: number("forwarded")?,
            replied: number("replied")?,
            passed: number("passed")?,
            held: value["held"].as_u64().unwrap_or(0),
            drops: drops
                .iter()
                .map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        })
    }

    /// All drops.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Drops of one reason.
    pub fn drops(&self, reason: &str) -> u64 {
        self.drops.get(reason).copied().unwrap_or(0)
    }

    /// rx = forwarded + replied + passed + held + Σ drops, or a panic that shows the ledger.
    #[track_caller]
    pub fn assert_closes(&self) {
        let accounted = self.forwarded + self.replied + self.passed + self.held + self.dropped();
        assert!(
            self.rx == accounted,
            "the ledger does not close: {} received, {accounted} accounted for: {self:?}",
            self.rx
        );
    }

    /// What came since an earlier reading.
    pub fn since(&self, before: &Ledger) -> Ledger {
        let drops = self.drops.iter().map(|(reason, count)| (reason.clone(), count - before.drops(reason)));
        Ledger {
            rx: self.rx - before.rx,
            forwarded: self.forwarded - before.forwarded,
            replied: self.replied - before.replied,
            passed: self.passed - before.passed,
            held: self.held,
            drops: drops.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_reads_subtracts_and_closes() {
        let read = |value| Ledger::read(&value).expect("a ledger");
        let before = read(json!({"rx":3,"forwarded":2,"replied":0,"passed":0,"drops":{"land":1,"no_route":0}}));
        let after = read(json!({"rx":9,"forwarded":5,"replied":1,"passed":1,"held":0,"drops":{"land":2}}));
        before.assert_closes();
        after.assert_closes();
        assert_eq!(after.since(&before).drops("land"), 1);
        assert_eq!(after.since(&before).forwarded, 3);
        assert!(Ledger::read(&json!({"rx": 1})).is_err());
    }

    #[test]
    #[should_panic(expected = "2 received, 1 accounted for")]
    fn one_that_does_not_close_is_shown() {
        Ledger { rx: 2, forwarded: 1, ..Ledger::default() }.assert_closes();
    }
}
