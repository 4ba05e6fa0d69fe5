//! The programs that make traffic, run in a namespace, with failures that say what was run and what it said.

use crate::echo::Answer;
use crate::eventually;
use crate::netns::Namespace;
use ringway_control::demo::process::Process;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs a program to its end, within so long; its output, or what went wrong.
pub fn run(namespace: &Namespace, program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let mut command = namespace.command(program);
    command.args(arguments);
    let what = format!("{program} {} (in {})", arguments.join(" "), namespace.name());
    let mut process = Process::start(&what, command).map_err(|error| error.to_string())?;
    let status = process.wait(limit).map_err(|error| error.to_string())?;
    if status.success() { Ok(process.output()) } else { Err(format!("{what}: {status}: {}", process.output())) }
}

/// One HTTP request over a new connection.
pub fn try_curl(namespace: &Namespace, url: &str) -> Result<String, String> {
    let arguments = ["-gsS", "--fail", "--connect-timeout", "3", "--max-time", "10", url];
    run(namespace, "curl", &arguments, Duration::from_secs(15))
}

/// One HTTP request to a test web server over a new connection: who answered, and whom it saw.
pub fn try_ask(namespace: &Namespace, server: SocketAddr) -> Result<Answer, String> {
    let body = try_curl(namespace, &format!("http://{server}/"))?;
    let mut words = body.split_whitespace();
    let mut word = || words.next().map(str::to_owned).ok_or_else(|| format!("an odd answer from {server}: {body}"));
    Ok(Answer { backend: word()?, client: word()?, port: word()?, payload: String::new() })
}

/// [`try_ask`], where a failure ends the test.
#[track_caller]
pub fn ask(namespace: &Namespace, server: SocketAddr) -> Answer {
    try_ask(namespace, server).unwrap_or_else(|error| panic!("{error}"))
}

/// Starts nginx: it answers `NAME CLIENT-ADDRESS CLIENT-PORT`, and files of `folder` under /files/.
pub fn nginx(namespace: &Namespace, name: &str, port: u16, folder: &Path) -> Process {
    let folder = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {folder}/{name}.pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type text/plain;
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.fastcgi; uwsgi_temp_path {folder}/{name}.uwsgi; scgi_temp_path {folder}/{name}.scgi;
  server {{
    listen {port} reuseport backlog=1024; listen [::]:{port} reuseport backlog=1024;
    location / {{ return 200 \"{name} $remote_addr $remote_port\\n\"; }}
    location /files/ {{ alias {folder}/; }}
  }}
}}
"
    );
    let file = format!("{folder}/{name}.conf");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut command = namespace.command("nginx");
    command.args(["-c", &file]);
    let process = Process::start(&format!("nginx of {name}"), command).unwrap_or_else(|error| panic!("{error}"));
    await_listener(namespace, port, &process);
    process
}

/// Starts an iperf3 server.
pub fn iperf_server(namespace: &Namespace, port: u16) -> Process {
    let mut command = namespace.command("iperf3");
    command.args(["--server", "--port", &port.to_string(), "--forceflush"]);
    let process = Process::start("iperf3 --server", command).unwrap_or_else(|error| panic!("{error}"));
    // A connection that sends nothing would occupy the server: look at what it says instead.
    eventually(Duration::from_secs(10), "iperf3 listens", || {
        if process.output().contains("Server listening") { Ok(()) } else { Err(process.output()) }
    });
    process
}

/// Runs iperf3 against a server for `seconds`; its JSON report.
#[track_caller]
pub fn iperf(namespace: &Namespace, server: SocketAddr, seconds: u32, more: &[&str]) -> Value {
    let (address, port, time) = (server.ip().to_string(), server.port().to_string(), seconds.to_string());
    let mut arguments =
        vec!["--client", &address, "--port", &port, "--time", &time, "--json", "--connect-timeout", "5000"];
    arguments.extend(more);
    let limit = Duration::from_secs(u64::from(seconds) + 20);
    // It serves one at a time, and is busy with the end of the one before for a moment.
    let mut report = Value::Null;
    eventually(limit, "iperf3 has time", || {
        let output = run(namespace, "iperf3", &arguments, limit).unwrap_or_else(|error| panic!("{error}"));
        // iperf3 may write warnings before the report.
        let json = output.find('{').and_then(|start| output.get(start..)).unwrap_or(&output);
        report = serde_json::from_str(json).unwrap_or_else(|error| panic!("iperf3's report: {error}: {output}"));
        match report["error"].as_str() {
            None => Ok(()),
            Some(error) if error.contains("busy") => Err(error.to_owned()),
            Some(error) => panic!("iperf3: {error}: {output}"),
        }
    });
    report
}

/// Pings an address so many times; an error when not all were answered.
pub fn ping(namespace: &Namespace, address: IpAddr, count: u32) -> Result<String, String> {
    let (address, count) = (address.to_string(), count.to_string());
    let arguments = ["-n", "-i", "0.2", "-W", "2", "-c", &count, &address];
    run(namespace, "ping", &arguments, Duration::from_secs(30))
}

/// Runs tracepath towards a port of an address.
pub fn tracepath(namespace: &Namespace, address: IpAddr, port: u16) -> Result<String, String> {
    let (address, port) = (address.to_string(), port.to_string());
    run(namespace, "tracepath", &["-n", "-m", "5", "-p", &port, &address], Duration::from_secs(60))
}

/// Turns transmit checksum offload off, and with it segmentation offload.
pub fn offloads_off(namespace: &Namespace, link: &str) {
    run(namespace, "ethtool", &["-K", link, "tx", "off"], Duration::from_secs(10))
        .unwrap_or_else(|error| panic!("{error}"));
}

fn await_listener(namespace: &Namespace, port: u16, process: &Process) {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    eventually(Duration::from_secs(10), "the web server listens", || {
        let connection = namespace.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        match connection.and_then(|connection| connection) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", process.output())),
        }
    });
}

/// Whether any link of a namespace has an XDP program, and which links there are.
pub fn links(namespace: &Namespace) -> Vec<Value> {
    let output = Command::new("ip").args(["-netns", namespace.name(), "-json", "link", "show"]).output();
    let output = output.unwrap_or_else(|error| panic!("ip link: {error}"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("ip -json link: {error}"))
}
