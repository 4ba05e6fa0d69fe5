//! What goes wrong between us and the API server, in words, and what follows from it.

use std::error::Error;
use std::io;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::client::AuthError;
use kube::core::Status;

use super::page::Malformed;
use crate::parse::Kind;

/// The role that a refused request is missing.
const ROLE: &str = "deploy/kubernetes.yaml";

/// How long an API server is left alone that sent too much.
const EXCESS: Duration = Duration::from_secs(30);

/// What a failed request or a broken body means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Try the same again.
    Retry,
    /// List anew: something could not be read.
    List,
    /// List anew: the place in the history is lost. That is nobody's fault.
    Expired,
    /// There is no such kind, or not for us.
    Unserved,
}

/// A failed request, or a body that broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What follows from it.
    pub(super) remedy: Remedy,
    /// What is wrong and what to do.
    pub(super) text: String,
    /// How long the API server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Whether an API server said so, rather than nobody.
    pub(super) answered: bool,
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Fault::garbled(malformed.0)
    }
}

impl Fault {
    /// A request that got no answer.
    pub(super) fn of_request(error: &kube::Error) -> Self {
        match error {
            kube::Error::Auth(error) => Self::retry(format!(
                "the credentials cannot be had: {}; see the user's entry in the kubeconfig",
                credentials(error)
            )),
            other => Self::broken(other),
        }
    }

    /// A request for `kind` that was answered with the status `code`. `verb` is what the role must allow.
    pub(super) fn of_answer(code: u16, complaint: &[u8], kind: Kind, verb: &str) -> Self {
        let text = String::from_utf8_lossy(complaint);
        // What is between us and the API server may say it in other words.
        let status = serde_json::from_str::<Status>(&text).ok();
        let status = status.unwrap_or_else(|| Status::failure(text.trim(), "").with_code(code));
        Self::of_status(&status, kind, verb)
    }

    /// An answer that says what is wrong.
    pub(super) fn of_status(status: &Status, kind: Kind, verb: &str) -> Self {
        let Status { code, message, reason, .. } = status;
        let said = &*brief(if message.is_empty() { reason } else { message });
        let retry_after = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
        let retry_after =
            retry_after.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(60)));
        // A server that was set back to an older state does not know our place in its history either.
        let is_ahead = *code == 504 && said.contains("Too large resource version");
        let (remedy, text) = match code {
            410 => (
                Remedy::Expired,
                format!("the API server's history does not go back to where the watch stopped: {said}"),
            ),
            _ if is_ahead => {
                (Remedy::Expired, format!("the API server's history ends before the watch stopped: {said}"))
            }
            401 => (
                Remedy::Retry,
                format!(
                    "the API server does not accept the credentials: {said}; renew the token or the client certificate"
                ),
            ),
            403 => (
                Remedy::Unserved,
                format!("may not {verb} {}: {said}; apply {ROLE} and bind its role to this user", plural(kind)),
            ),
            404 => (Remedy::Unserved, format!("the API server has no {}: {said}", plural(kind))),
            _ => (Remedy::Retry, format!("the API server answers {code}: {said}")),
        };
        Fault { remedy, text, retry_after, answered: true }
    }

    /// A connection or a body that broke.
    pub(super) fn broken(error: &(dyn Error + 'static)) -> Self {
        let kind = io_kind(error);
        let text = plain(cause(error));
        let do_this = match kind {
            _ if text.contains("UnknownIssuer") => {
                "; its certificate is not from the CA that the kubeconfig names: set certificate-authority to that of this \
                 cluster"
            }
            _ if text.contains("not valid for name") => {
                "; its certificate is for other names: correct the address, or set tls-server-name"
            }
            _ if text.contains("certificate expired") || text.contains("certificate not valid yet") => {
                "; its certificate is not valid now: renew it, or correct the clock"
            }
            _ if text.contains("received fatal alert") => {
                "; it does not accept the client certificate: see client-certificate in the kubeconfig"
            }
            Some(
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::TimedOut,
            ) => "; is it running, and is this its address?",
            _ if text.contains("failed to lookup address") => "; is this its name?",
            _ => "",
        };
        let text = match kind {
            Some(io::ErrorKind::TimedOut) => "no answer in time".to_owned(),
            // TLS has many more words for it.
            Some(io::ErrorKind::UnexpectedEof) => "the connection broke off".to_owned(),
            _ => text,
        };
        Self::retry(format!("{text}{do_this}"))
    }

    /// Nothing came for this long.
    pub(super) fn silent(waited: Duration) -> Self {
        Self::retry(format!("nothing was heard for {} s on an open connection", waited.as_secs_f64()))
    }

    /// A list does not come to its end.
    pub(super) fn endless(waited: Duration) -> Self {
        Self::retry(format!("a list was not complete after {} s", waited.as_secs_f64()))
    }

    /// More than is taken. To ask again soon would be as dear, and as useless.
    pub(super) fn excess(what: String) -> Self {
        let text = format!("{what}, and no API server that works sends that; is it one?");
        Fault { remedy: Remedy::Retry, text, retry_after: Some(EXCESS), answered: true }
    }

    /// An answer that makes no sense.
    pub(super) fn garbled(what: String) -> Self {
        let text = format!("an answer cannot be read: {}; is something between us and the API server?", brief(&what));
        Fault { remedy: Remedy::List, text, retry_after: None, answered: true }
    }

    /// A watch that ended as soon as it began.
    pub(super) fn hasty() -> Self {
        Self::retry("a watch ended at once; is something between us and the API server?".to_owned())
    }

    fn retry(text: String) -> Self {
        Fault { remedy: Remedy::Retry, text, retry_after: None, answered: false }
    }
}

/// As in the role.
fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices.discovery.k8s.io",
        Kind::Node => "nodes",
        Kind::ServiceCidr => "servicecidrs.networking.k8s.io",
    }
}

/// The innermost error says what happened; those around it say where in the client.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    brief(&innermost.to_string())
}

/// Why credentials cannot be had.
pub(super) fn credentials(error: &AuthError) -> String {
    match error {
        AuthError::ReadTokenFile(error, path) => {
            format!("cannot read the tokenFile {}: {error}", crate::plain::path(path))
        }
        AuthError::AuthExecStart(error) => format!("the exec plugin cannot be started: {error}"),
        AuthError::AuthExecRun { out, .. } => {
            let said = brief(&String::from_utf8_lossy(&out.stderr));
            format!(
                "the exec plugin failed, {}: {}",
                out.status,
                if said.is_empty() { "it said nothing" } else { &said }
            )
        }
        other => cause(other),
    }
}

/// What the TLS library says, without what changes with every attempt, and for people.
pub(super) fn plain(text: String) -> String {
    if text.contains("UnsupportedCertVersion") {
        return "a certificate is X.509 version 1 or 2, and only version 3 can be used: issue it anew with extensions"
            .to_owned();
    }
    if text.contains("KeyMismatch") {
        return "the key is not that of the certificate".to_owned();
    }
    let Some((what, when)) = text.split_once(": verification time ") else { return text };
    let limit = ["not valid after ", "not valid before "].iter().find_map(|limit| {
        let (_, seconds) = when.split_once(limit)?;
        let seconds = seconds.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(format!(" ({limit}{})", Timestamp::from_second(seconds).ok()?))
    });
    format!("{what}{}", limit.unwrap_or_default())
}

/// The first input or output error in the chain.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() != io::ErrorKind::Other
        {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

/// One line, not a page of HTML.
fn brief(text: &str) -> String {
    const MOST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", crate::plain::line(&line[..end])),
        None => crate::plain::line(&line).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        serde_json::from_value(serde_json::json!({"code": code, "message": message})).unwrap()
    }

    #[test]
    fn a_refused_request_names_verb_resource_and_role() {
        let said = "services is forbidden: User \"ringway\" cannot list resource \"services\" in API group \"\"";
        let fault = Fault::of_status(&status(403, said), Kind::Service, "list");
        assert_eq!(fault.remedy, Remedy::Unserved);
        assert!(
            fault.text.starts_with("may not list services: services is forbidden: User \"ringway\""),
            "{}",
            fault.text
        );
        assert!(fault.text.ends_with("apply deploy/kubernetes.yaml and bind its role to this user"), "{}", fault.text);
    }

    #[test]
    fn a_lost_place_in_the_history_asks_for_a_list() {
        let gone = Fault::of_status(&status(410, "too old resource version: 1 (9)"), Kind::Node, "watch");
        assert_eq!(gone.remedy, Remedy::Expired);
        let ahead = "Timeout: Too large resource version: 9, current: 1";
        assert_eq!(Fault::of_status(&status(504, ahead), Kind::Node, "watch").remedy, Remedy::Expired);
        assert_eq!(Fault::of_status(&status(504, "etcd is slow"), Kind::Node, "watch").remedy, Remedy::Retry);
    }

    #[test]
    fn pages_of_html_are_cut() {
        let fault = Fault::of_status(&status(502, &"<html>\n".repeat(100)), Kind::Node, "list");
        assert!(fault.text.len() < 400 && !fault.text.contains('\n'), "{}", fault.text);
    }

    #[test]
    fn a_certificate_that_does_not_do_is_told_in_the_same_words_every_time() {
        // The words of rustls.
        let told =
            |text: &str| Fault::broken(&kube::Error::Service(format!("invalid peer certificate: {text}").into())).text;
        let expired = "certificate expired: verification time 1795290053 (UNIX), but certificate is not valid after \
                       1609459200 (185830853 seconds ago)";
        assert_eq!(
            told(expired),
            "invalid peer certificate: certificate expired (not valid after 2021-01-01T00:00:00Z); its certificate is not \
             valid now: renew it, or correct the clock"
        );
        assert_eq!(told(expired), told(&expired.replace("290053", "290054").replace("0853", "0854")));
        let early = "certificate not valid yet: verification time 1795290056 (UNIX), but certificate is not valid before \
                     2082758400 (287468344 seconds in future)";
        assert!(told(early).contains("(not valid before 2036-01-01T00:00:00Z); its certificate is not valid now"));
        let named = told("certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b\")");
        assert!(named.ends_with("; its certificate is for other names: correct the address, or set tls-server-name"));
        assert!(told("UnknownIssuer").contains("set certificate-authority to that of this cluster"));
        assert!(told("Other(OtherError(UnsupportedCertVersion))").starts_with("a certificate is X.509 version 1 or 2"));
    }

    #[test]
    fn credentials_that_cannot_be_had_are_told_with_their_file_or_plugin() {
        let missing = || io::Error::from_raw_os_error(2);
        let told = |error| {
            let fault = Fault::of_request(&kube::Error::Auth(error)).text;
            fault.strip_prefix("the credentials cannot be had: ").expect("its start").to_owned()
        };
        let file = told(AuthError::ReadTokenFile(missing(), "/run/token".into()));
        assert!(file.starts_with("cannot read the tokenFile /run/token: No such file"), "{file}");
        let started = told(AuthError::AuthExecStart(missing()));
        assert!(started.starts_with("the exec plugin cannot be started: No such file"), "{started}");
        let out = std::process::Command::new("sh").args(["-c", "echo who are you >&2; exit 3"]).output().unwrap();
        let failed = told(AuthError::AuthExecRun { cmd: "sh".into(), out: out.into() });
        let expected = "the exec plugin failed, exit status: 3: who are you; see the user's entry in the kubeconfig";
        assert_eq!(failed, expected);
    }

    #[test]
    fn the_innermost_cause_is_told_with_what_to_do() {
        let refused = io::Error::from_raw_os_error(111);
        let fault = Fault::broken(&kube::Error::Service(Box::new(refused)));
        assert_eq!(fault.text, "Connection refused (os error 111); is it running, and is this its address?");
    }
}
