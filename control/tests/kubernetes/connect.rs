//! A kubeconfig that is wrong is refused before anything starts, with what to do.

use super::*;

async fn refused(text: &str, context: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, text).unwrap();
    let error = Connection::open(Some(&file), context).await.err().expect(text);
    assert!(error.is_configuration());
    error.to_string().replace(&file.display().to_string(), "FILE")
}

const GOOD: &str = "
current-context: here
contexts:
- {name: here, context: {cluster: c, user: u}}
- {name: there, context: {cluster: d, user: u}}
- {name: lost, context: {cluster: c, user: nobody}}
clusters: [{name: c, cluster: {server: \"https://10.0.0.1:6443\"}}]
users: [{name: u, user: {token: t}}]
";

#[tokio::test]
async fn each_mistake_in_a_kubeconfig_has_a_message() {
    let key = "source.kubernetes.kubeconfig";
    let context = "source.kubernetes.context";
    let ca = |ca: &str| GOOD.replace("server:", &format!("{ca}, server:"));
    let user = |user: &str| GOOD.replace("{token: t}", user);
    let cases = [
        (GOOD.to_owned(), Some("prod"), format!("{context}: FILE has no context \"prod\"; it has here, there, lost")),
        (
            GOOD.replace("current-context: here", ""),
            None,
            format!("{context}: FILE has no current-context; name one of its contexts here: here, there, lost"),
        ),
        (
            GOOD.to_owned(),
            Some("there"),
            format!("{key}: the context \"there\" of FILE names the cluster \"d\", which is not there; it has c"),
        ),
        (
            GOOD.to_owned(),
            Some("lost"),
            format!("{key}: the context \"lost\" of FILE names the user \"nobody\", which is not there; it has u"),
        ),
        (
            GOOD.replace("https://", ""),
            None,
            format!("{key}: the server of the cluster \"c\" in FILE is \"10.0.0.1:6443\"; write https://HOST:PORT"),
        ),
        ("nodeName: gw-1\n".into(), None, format!("{key}: FILE is no kubeconfig: it has no contexts")),
        (String::new(), None, format!("{key}: FILE is no kubeconfig: it has no contexts")),
        ("contexts: {".into(), None, format!("{key}: FILE is no kubeconfig: ")),
        (
            user("{tokenFile: /nowhere/token}"),
            None,
            "source.kubernetes: the tokenFile of the user cannot be used: cannot read /nowhere/token: No such file".into(),
        ),
        // A file without a certificate would let nobody in.
        (
            ca("certificate-authority-data: aGVsbG8K"),
            None,
            "source.kubernetes: the certificate-authority of the cluster cannot be used: there is no certificate in it; \
             correct it in FILE"
                .into(),
        ),
        (
            ca("certificate-authority: /nowhere/ca.crt"),
            None,
            "source.kubernetes: the certificate-authority of the cluster cannot be used: ".into(),
        ),
        (
            ca("certificate-authority-data: \"!\""),
            None,
            "source.kubernetes: the certificate-authority of the cluster cannot be used: ".into(),
        ),
        (
            user("{client-certificate: /nowhere/c.crt, client-key: /nowhere/c.key}"),
            None,
            "source.kubernetes: the client-certificate or client-key of the user cannot be used: ".into(),
        ),
    ];
    for (text, context, expected) in cases {
        let message = refused(&text, context).await;
        assert!(message.starts_with(&expected), "{message}\n{expected}");
        assert!(!message.contains("-->"), "no excerpt: {message}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let error = Connection::open(Some(Path::new("/nowhere/kubeconfig")), None).await.err().unwrap().to_string();
    let expected = "source.kubernetes.kubeconfig: cannot read /nowhere/kubeconfig: No such file or directory (os error 2); name a file \
                    that this user can read";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_good_kubeconfig_says_where_and_as_whom() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), "http://127.0.0.1:1");
    let connection = Connection::open(Some(&file), Some("here")).await.unwrap();
    assert_eq!((&*connection.server, &*connection.identity), ("http://127.0.0.1:1", "user u of context here"));
}

#[tokio::test]
async fn a_token_file_may_end_with_a_newline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret\n").unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = kubeconfig(folder.path(), &format!("http://{}", listener.local_addr().unwrap()));
    let text = std::fs::read_to_string(&file).unwrap().replace("{token: t}", "{tokenFile: token}");
    std::fs::write(&file, text).unwrap();
    let answer = async move |headers: axum::http::HeaderMap| {
        let _ = heard.send(headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()));
        axum::http::StatusCode::INTERNAL_SERVER_ERROR
    };
    let served = tokio::spawn(async { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    let connection = Connection::open(Some(&file), None).await.unwrap();
    let _objects = watch(connection, "gw-1", PATIENCE, Limits::DEFAULT).unwrap();
    assert_eq!(hears.recv().await.unwrap().as_deref(), Some("Bearer secret"));
    served.abort();
}
