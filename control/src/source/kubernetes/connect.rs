//! Where the API server is and who we are: in-cluster configuration or a kubeconfig, checked before anything starts.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Request;
use kube::Config;
use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::filter::FilterLayer;

use super::fault::{cause, credentials, plain};
use super::token::TokenFile;
use crate::source::open::{self, Named, Progress};

/// The largest kubeconfig, certificate, key or token that is read.
const MAX_BYTES: u64 = 4 << 20;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// An API server and the right to ask it. No packet has been sent yet.
pub struct Connection {
    pub(super) client: kube::Client,
    /// Its address.
    pub server: String,
    /// As whom it is asked, in words.
    pub identity: String,
}

/// Why the API server cannot even be asked. The message says what is wrong, with the value, and what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum ConnectError {
    #[error(
        "source.kubernetes: this is no pod of a cluster ({reason}); name a kubeconfig: source: {{kubernetes: {{kubeconfig: PATH}}}}"
    )]
    NotInCluster { reason: String },
    #[error(
        "source.kubernetes.kubeconfig: cannot read {}: {error}; name a file that this user can read",
        crate::plain::path(path)
    )]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("source.kubernetes.kubeconfig: {} is no kubeconfig: {reason}", crate::plain::path(path))]
    NoKubeconfig { path: PathBuf, reason: String },
    #[error("source.kubernetes.context: {} has no context {name:?}; it has {}", crate::plain::path(path), listed(.there))]
    NoContext { path: PathBuf, name: String, there: Vec<String> },
    #[error(
        "source.kubernetes.context: {} has no current-context; name one of its contexts here: {}",
        crate::plain::path(path),
        listed(.there)
    )]
    NoCurrentContext { path: PathBuf, there: Vec<String> },
    #[error(
        "source.kubernetes.kubeconfig: the context {context:?} of {} names the {what} {name:?}, which is not there; it has {}",
        crate::plain::path(path),
        listed(.there)
    )]
    Dangling { path: PathBuf, context: String, what: &'static str, name: String, there: Vec<String> },
    #[error(
        "source.kubernetes.kubeconfig: the server of the cluster {cluster:?} in {} is {server:?}; write https://HOST:PORT",
        crate::plain::path(path)
    )]
    Server { path: PathBuf, cluster: String, server: String },
    #[error("source.kubernetes: {what} cannot be used: {reason}; correct it in {from}")]
    Credentials { what: &'static str, reason: String, from: String },
    #[error("source.kubernetes: the credentials cannot be had: {reason}; see the user's entry in {from}")]
    Plugin { reason: String, from: String },
}

impl ConnectError {
    /// Whether the configuration is wrong, rather than something failed.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, ConnectError::Plugin { .. })
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { crate::plain::line(&names.join(", ")).into_owned() }
}

impl Connection {
    /// Reads the description of the API server: the kubeconfig, else that which every pod is given. Needs a runtime.
    pub async fn open(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, ConnectError> {
        let (mut config, identity, from) = match kubeconfig {
            Some(path) => from_kubeconfig(path, context).await?,
            None => (in_cluster()?, "the pod's service account".to_owned(), "the pod's service account".to_owned()),
        };
        config.connect_timeout = Some(CONNECT);
        // Who fails is left alone for longer and longer, and told about; both are done here.
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let token = match token_file(&mut config) {
            Some(path) => Some(TokenFile::open(&path).map_err(|error| unreadable_token(&error, &path, &from))?),
            None => None,
        };
        let builder = ClientBuilder::try_from(config).map_err(|error| unusable(&error, from))?;
        let client = match token {
            Some(token) => {
                let sign = move |request: Request<Body>| token.sign(request);
                builder.with_layer(&FilterLayer::new(sign)).build()
            }
            None => builder.build(),
        };
        Ok(Connection { client, server, identity })
    }
}

/// The file that the token is in, where it is what counts: taken out, since the client would send it as it is.
fn token_file(config: &mut Config) -> Option<PathBuf> {
    let user = &mut config.auth_info;
    let is_basic = user.username.is_some() && user.password.is_some();
    let path = if is_basic || user.token.is_some() { None } else { user.token_file.take() };
    path.map(PathBuf::from)
}

fn unreadable_token(error: &io::Error, path: &Path, from: &str) -> ConnectError {
    let reason = format!("cannot read {}: {error}", crate::plain::path(path));
    ConnectError::Credentials { what: "the tokenFile of the user", reason, from: from.to_owned() }
}

fn in_cluster() -> Result<Config, ConnectError> {
    Config::incluster().map_err(|error| {
        let reason = match &error {
            InClusterError::ReadEnvironmentVariable(_) => {
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set".to_owned()
            }
            other => other.to_string(),
        };
        ConnectError::NotInCluster { reason }
    })
}

async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<(Config, String, String), ConnectError> {
    let at = || path.to_owned();
    // What could block is not even tried below.
    if let Some(error) = unfit(path) {
        return Err(ConnectError::Unreadable { path: at(), error });
    }
    let file = Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(error, path) => ConnectError::Unreadable { path, error },
        // The parser's excerpt of the file is no part of a line.
        other => {
            let reason = cause(&other);
            let reason = reason.split(" --> ").next().unwrap_or_default().to_owned();
            ConnectError::NoKubeconfig { path: at(), reason }
        }
    })?;
    let there: Vec<String> = file.contexts.iter().map(|context| context.name.clone()).collect();
    if there.is_empty() {
        return Err(ConnectError::NoKubeconfig { path: at(), reason: "it has no contexts".into() });
    }
    let current = file.current_context.as_deref().filter(|current| !current.is_empty());
    let Some(name) = context.or(current).map(str::to_owned) else {
        return Err(ConnectError::NoCurrentContext { path: at(), there });
    };
    let found = file.contexts.iter().find(|context| context.name == name);
    let Some(found) = found.and_then(|found| found.context.as_ref()) else {
        return Err(ConnectError::NoContext { path: at(), name, there });
    };
    let dangling = |what, missing: &str, there: Vec<String>| ConnectError::Dangling {
        path: at(),
        context: name.clone(),
        what,
        name: missing.to_owned(),
        there,
    };
    let Some(cluster) = file.clusters.iter().find(|cluster| cluster.name == found.cluster) else {
        let there = file.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        return Err(dangling("cluster", &found.cluster, there));
    };
    let server = cluster.cluster.as_ref().and_then(|cluster| cluster.server.clone()).unwrap_or_default();
    let is_address = server
        .parse::<hyper::Uri>()
        .is_ok_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("https" | "http")));
    if !is_address {
        return Err(ConnectError::Server { path: at(), cluster: found.cluster.clone(), server });
    }
    let user = found.user.clone().unwrap_or_default();
    if !user.is_empty() && !file.auth_infos.iter().any(|known| known.name == user) {
        return Err(dangling("user", &user, file.auth_infos.iter().map(|user| user.name.clone()).collect()));
    }
    let of_user = file.auth_infos.iter().find(|known| known.name == user).and_then(|known| known.auth_info.as_ref());
    let named = [
        ("the certificate-authority of the cluster", cluster.cluster.as_ref().map(|c| &c.certificate_authority)),
        ("the client-certificate of the user", of_user.map(|user| &user.client_certificate)),
        ("the client-key of the user", of_user.map(|user| &user.client_key)),
    ];
    for (what, named) in named {
        let Some(named) = named.and_then(Option::as_ref) else { continue };
        if let Some(error) = unfit(named.as_ref()) {
            let (reason, from) = (format!("cannot read {named}: {error}"), crate::plain::path(path));
            return Err(ConnectError::Credentials { what, reason, from });
        }
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|error| {
        let what = match &error {
            KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
                "the certificate-authority of the cluster"
            }
            KubeconfigError::LoadClientCertificate(_) => "the client-certificate of the user",
            KubeconfigError::LoadClientKey(_) => "the client-key of the user",
            KubeconfigError::ParseProxyUrl(_) | KubeconfigError::ParseNoProxy(_) => "the proxy",
            _ => "the context",
        };
        let reason = error.to_string();
        ConnectError::Credentials { what, reason, from: crate::plain::path(path) }
    })?;
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        let (what, reason) = ("the certificate-authority of the cluster", "there is no certificate in it".to_owned());
        return Err(ConnectError::Credentials { what, reason, from: crate::plain::path(path) });
    }
    let identity = if user.is_empty() { "nobody".to_owned() } else { format!("user {user} of context {name}") };
    Ok((config, crate::plain::line(&identity).into_owned(), crate::plain::path(path)))
}

/// Why a file is none that can be read now and again. What is wrong with it otherwise is told by who reads it.
fn unfit(path: &Path) -> Option<io::Error> {
    let text = open::text(path, Named::ByOthers, MAX_BYTES, &Progress::default());
    text.err().filter(|error| matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::IsADirectory))
}

fn unusable(error: &kube::Error, from: String) -> ConnectError {
    let reason = plain(error.to_string());
    let what = match error {
        kube::Error::Auth(AuthError::ReadTokenFile(error, file)) => return unreadable_token(error, file, &from),
        kube::Error::Auth(error) => return ConnectError::Plugin { reason: credentials(error), from },
        kube::Error::InferKubeconfig(KubeconfigError::LoadClientKey(_)) => "the client-key of the user",
        kube::Error::RustlsTls(_) if reason.contains("root certificate") => "the certificate-authority of the cluster",
        kube::Error::RustlsTls(_) | kube::Error::InferKubeconfig(_) => {
            "the client-certificate or client-key of the user"
        }
        kube::Error::ProxyProtocolDisabled { .. } | kube::Error::ProxyProtocolUnsupported { .. } => "the proxy",
        _ => "the description of the API server",
    };
    ConnectError::Credentials { what, reason, from }
}
