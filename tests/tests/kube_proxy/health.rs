//! What load balancers in front are told: the healthCheckNodePorts of both, compared.

use ringway_tests::eventually;
use ringway_tests::world::{NODE_ADDRESSES, World};
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, as far as load balancers may care: status, weight, type and body; or that nobody listens.
fn ask(world: &World, address: SocketAddr) -> Result<String, String> {
    let asked = world.client.enter(|| {
        let mut stream = match TcpStream::connect_timeout(&address, Duration::from_secs(3)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok("refused".to_owned()),
            other => other?,
        };
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    });
    let text = asked.and_then(|asked| asked).map_err(|error| format!("{address}: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines: Vec<String> = head
        .lines()
        .map(str::to_ascii_lowercase)
        .filter(|line| line.starts_with("http/") || line.starts_with("x-") || line.starts_with("content-type"))
        .collect();
    lines.sort();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    Ok(format!("{} {body}", lines.join(", ")))
}

/// Compares the answers for all Services that have such a port, on the node's primary addresses; how many there were.
#[track_caller]
pub(crate) fn compare(kube_proxy: &World, ringway: &World, services: &[Value]) -> usize {
    let mut answers = 0;
    for service in services {
        let Some(port) = service["spec"]["healthCheckNodePort"].as_u64() else { continue };
        for address in &NODE_ADDRESSES[..2] {
            let port = u16::try_from(port).expect("a port number");
            let address = SocketAddr::new(address.parse().expect("an address"), port);
            // The rules come into force a moment before the answers.
            eventually(Duration::from_secs(10), &format!("the same answer for {service}"), || {
                let [theirs, ours] = [ask(kube_proxy, address)?, ask(ringway, address)?];
                if theirs == ours { Ok(()) } else { Err(format!("kube-proxy: {theirs}\nRingway:    {ours}")) }
            });
            answers += 1;
        }
    }
    answers
}
