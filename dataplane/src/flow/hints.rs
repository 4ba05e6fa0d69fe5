//! What the directory knows of flows that both sides take part in.

use super::FlowId;
use super::table::FlowTable;

impl FlowTable {
    /// Both sides of a flow hear each other: its hints, which are noted anew where they were lost, give way to none of a flow
    /// that somebody may have made up.
    #[cold]
    pub fn keep_hints(&self, id: FlowId) {
        let Some((directory, worker)) = &self.shared else { return };
        let Some(flow) = self.flows.get(id.0 as usize) else { return };
        directory.keep(self.hash(&flow.original()), *worker);
        // The port of a masqueraded flow's reply says whose it is.
        if !flow.masquerade() && !flow.is_one_way() {
            directory.keep(self.hash(&flow.reply()), *worker);
        }
    }
}
