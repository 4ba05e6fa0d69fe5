//! Questions to the running instance over its admin socket: HTTP with JSON, the same that `--output json` prints.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::config_file::ConfigFile;
use crate::admin;
use crate::config::{DEFAULT_ADMIN_SOCKET, SourceKey};
use crate::outcome::{Failure, ReportOutput, note};
use crate::plain;

/// How long an instance may take for an answer. It answers between two batches, so this is far more than it needs.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which instance is asked.
#[derive(Clone, Debug, Args)]
pub struct Instance {
    #[command(flatten)]
    config: ConfigFile,
    /// The admin socket of the instance [default: that of the configuration, else /run/ringway/admin.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Instance {
    /// The instance with this configuration file, or with this socket.
    pub fn new(config: ConfigFile, socket: Option<PathBuf>) -> Self {
        Instance { config, socket }
    }

    /// Asks for `path`.
    pub fn get(&self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Asks for `path` with a JSON question.
    pub fn post(&self, path: &str, question: &serde_json::Value) -> Result<Bytes, Failure> {
        self.ask(Method::POST, path, question.to_string().into())
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let config = match self.config.load_if_there(SourceKey::Read) {
            // Nobody named it, and somebody may be at work on it: the instance is asked all the same.
            Err(failure) if !self.config.is_named() => {
                note(format!("{failure}\nnote: so {DEFAULT_ADMIN_SOCKET} is asked; name another with --socket"));
                None
            }
            config => config?,
        };
        Ok(config.map_or_else(|| DEFAULT_ADMIN_SOCKET.into(), |config| config.admin.socket))
    }

    fn ask(&self, method: Method, path: &str, question: Bytes) -> Result<Bytes, Failure> {
        let socket = self.socket()?;
        if let Some(why) = admin::unfit(&socket) {
            return Err(Failure::invalid(format!("--socket {} {why}", plain::path(&socket))));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start asking: {error}")))?;
        let answer = runtime.block_on(async {
            let stream = UnixStream::connect(&socket).await.map_err(Unanswered::Connect)?;
            let answer = timeout(PATIENCE, exchange(stream, method, path, question)).await;
            answer.map_err(|_| Unanswered::Slow)?
        });
        answer.map_err(|why| match why {
            Unanswered::Invalid(why) => Failure::invalid(format!("{why}\nnothing was changed")),
            Unanswered::NotTaken(why) => Failure::failed(format!("{why}\nnothing was changed")),
            why => failed(&socket, &why),
        })
    }
}

fn failed(socket: &Path, why: &Unanswered) -> Failure {
    Failure::failed(format!("{}: {}", plain::path(socket), told(why)))
}

/// Why there is no answer.
enum Unanswered {
    Connect(io::Error),
    Http(hyper::Error),
    Slow,
    /// The instance says no, and why.
    Refused(String),
    /// The configuration is wrong, and why.
    Invalid(String),
    /// The configuration could not be taken now, and why.
    NotTaken(String),
}

impl From<hyper::Error> for Unanswered {
    fn from(error: hyper::Error) -> Self {
        Unanswered::Http(error)
    }
}

/// What is wrong, and what to do.
fn told(why: &Unanswered) -> String {
    const START: &str = "start one with ringway run --config FILE, or name its socket with --socket, or its configuration \
                         with --config";
    match why {
        Unanswered::Connect(error) => match error.kind() {
            io::ErrorKind::NotFound => format!("no instance is running here: the admin socket does not exist; {START}"),
            io::ErrorKind::ConnectionRefused => {
                format!("no instance is running here: nobody listens on the admin socket any more; {START}")
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied; ask as root, as the user that runs it, or as a member of its group (ringway)".into()
            }
            _ => format!("cannot reach the admin socket: {error}"),
        },
        Unanswered::Http(error) => format!("the instance did not answer as expected: {error}; is it another program?"),
        Unanswered::Slow => format!("the instance did not answer within {} s; look at its log", PATIENCE.as_secs()),
        Unanswered::Refused(why) | Unanswered::Invalid(why) | Unanswered::NotTaken(why) => why.clone(),
    }
}

async fn exchange(stream: UnixStream, method: Method, path: &str, question: Bytes) -> Result<Bytes, Unanswered> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(question));
    let request = request.map_err(|error| Unanswered::Refused(format!("{path} cannot be asked for: {error}")))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let said = json.as_ref().and_then(|json| json["error"].as_str()).unwrap_or(text.trim());
    match status {
        StatusCode::UNPROCESSABLE_ENTITY if path == "/reload" => return Err(Unanswered::Invalid(said.to_owned())),
        StatusCode::SERVICE_UNAVAILABLE if path == "/reload" => return Err(Unanswered::NotTaken(said.to_owned())),
        _ => {}
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return Err(Unanswered::Refused(said.to_owned()));
    }
    Err(Unanswered::Refused(format!("the instance refused {path} ({status}): {said}")))
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        Failure::failed(format!("the instance's answer cannot be read: {error}; is it of another version of ringway?"))
    })
}

/// Prints an answer. JSON is printed as it came, so that a client of another version loses nothing.
pub(super) fn print<T: DeserializeOwned, W: Write>(
    answer: &[u8],
    output: ReportOutput,
    out: &mut W,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match output {
        ReportOutput::Text => out.write_all(plain::lines(&text(&read::<T>(answer)?)).as_bytes())?,
        ReportOutput::Json => {
            out.write_all(answer.trim_ascii())?;
            out.write_all(b"\n")?;
        }
        ReportOutput::Yaml => {
            let yaml = serde_saphyr::to_string(&read::<serde_json::Value>(answer)?);
            let yaml = yaml.map_err(|error| Failure::failed(format!("cannot write YAML: {error}")))?;
            out.write_all(yaml.trim_end().as_bytes())?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}
