//! Objects written straight into etcd, before the API server starts: a large cluster is there within seconds. Through the
//! API server 44,000 Services take more than a quarter of an hour on two CPUs.
//!
//! The API server keeps objects as protobuf and also reads them as JSON. Each object must be complete as it would keep it:
//! nothing here validates, allocates or fills in defaults.

use super::{ControlPlane, ETCD};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// etcd takes so many operations in one transaction, see its `--max-txn-ops`,
const TOGETHER: usize = 128;
/// and 1.5 MiB (`--max-request-bytes`) before base64.
const BYTES: usize = 1 << 20;
/// So many transactions are sent by one curl.
const BATCH: usize = 64;

/// One transaction.
#[derive(Default)]
struct Transaction {
    puts: Vec<Value>,
    bytes: usize,
}

impl Transaction {
    fn add(&mut self, key: &str, value: &str) {
        self.bytes += key.len() + value.len();
        let put = json!({"key": BASE64_STANDARD.encode(key), "value": BASE64_STANDARD.encode(value)});
        self.puts.push(json!({"requestPut": put}));
    }

    /// Whether something of this size is too much in addition.
    fn is_full(&self, bytes: usize) -> bool {
        self.puts.len() == TOGETHER || (!self.puts.is_empty() && self.bytes + bytes > BYTES)
    }
}

impl ControlPlane {
    /// Writes Services, with the addresses that they have, and EndpointSlices. The API server must not run yet: it would
    /// give the same addresses to others.
    #[track_caller]
    pub(super) fn fill(&self, objects: impl Iterator<Item = Value>) {
        assert!(self.api.is_none(), "the API server runs already");
        let mut transactions = Vec::new();
        let mut open = Transaction::default();
        for (number, object) in (1u64..).zip(objects) {
            for (key, value) in stored(number, object) {
                let text = value.to_string();
                if open.is_full(key.len() + text.len()) {
                    transactions.push(std::mem::take(&mut open));
                }
                if transactions.len() == BATCH {
                    self.commit(&std::mem::take(&mut transactions));
                }
                open.add(&key, &text);
            }
        }
        transactions.push(open);
        transactions.retain(|transaction| !transaction.puts.is_empty());
        self.commit(&transactions);
    }

    #[track_caller]
    fn commit(&self, transactions: &[Transaction]) {
        if transactions.is_empty() {
            return;
        }
        let mut config = String::new();
        for (number, transaction) in transactions.iter().enumerate() {
            let body = self.path(&format!("bodies/transaction-{number}"));
            std::fs::write(&body, json!({"success": transaction.puts}).to_string()).expect("a transaction");
            let next = if number > 0 { "next\n" } else { "" };
            let _ = write!(
                config,
                "{next}url = \"{ETCD}/v3/kv/txn\"\noutput = \"/dev/null\"\nsilent\nshow-error\nmax-time = 60\n\
                 write-out = \"%{{http_code}}\\n\"\ndata-binary = \"@{}\"\n",
                body.display(),
            );
        }
        let file = self.path("requests");
        std::fs::write(&file, config).expect("the requests");
        let output = self.namespace.command("curl").arg("--config").arg(&file).output().expect("curl");
        let statuses = String::from_utf8_lossy(&output.stdout);
        let good = statuses.lines().filter(|status| *status == "200").count();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(good == transactions.len(), "etcd: {good} of {} good: {complaint}{statuses}", transactions.len());
    }
}

/// What the API server keeps of an object: the key and the value of each part.
fn stored(number: u64, mut object: Value) -> Vec<(String, Value)> {
    let metadata = &mut object["metadata"];
    metadata["uid"] = uid(0, number).into();
    metadata["creationTimestamp"] = CREATED.into();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (word(&metadata["namespace"]), word(&metadata["name"]));
    assert!(!namespace.is_empty() && !name.is_empty(), "it has no namespace or no name: {object}");
    let place = format!("{namespace}/{name}");
    match object["kind"].as_str() {
        Some("EndpointSlice") => vec![(format!("/registry/endpointslices/{place}"), object)],
        Some("Service") => {
            let addresses = object["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let allocated = (1u16..).zip(addresses).filter(|(_, address)| *address != "None");
            let allocated =
                allocated.map(|(family, address)| allocation(&namespace, &name, address, uid(family, number)));
            let mut all: Vec<_> = allocated.collect();
            all.push((format!("/registry/services/specs/{place}"), object));
            all
        }
        kind => panic!("the key of kind {kind:?} is not known here"),
    }
}

const CREATED: &str = "2026-01-01T00:00:00Z";

fn uid(what: u16, number: u64) -> String {
    format!("00000000-{what:04x}-4000-8000-{number:012x}")
}

/// What says that a ClusterIP is taken. The API server mends it and complains when it is missing.
fn allocation(namespace: &str, service: &str, address: &str, uid: String) -> (String, Value) {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address, "uid": uid, "creationTimestamp": CREATED,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": service}},
    });
    (format!("/registry/ipaddresses/{address}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_takes_so_many_objects_and_so_many_bytes_and_one_of_any_size() {
        let mut transaction = Transaction::default();
        assert!(!transaction.is_full(2 * BYTES));
        for _ in 0..TOGETHER {
            assert!(!transaction.is_full(1));
            transaction.add("key", "value");
        }
        assert!(transaction.is_full(1));
        let mut transaction = Transaction::default();
        transaction.add("", &"x".repeat(BYTES / 2));
        assert!(!transaction.is_full(BYTES / 2) && transaction.is_full(BYTES / 2 + 1));
    }
}
