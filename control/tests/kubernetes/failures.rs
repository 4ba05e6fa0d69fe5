//! Whatever the API server does, the last full picture stays until there is a new one.

use super::server::{CIDRS, Fault, NODES, SERVICES, SLICES};
use super::*;

const ALL: [&str; 4] = [SERVICES, SLICES, NODES, CIDRS];

async fn watched(server: &Server) {
    eventually("all are watched", || ALL.iter().all(|path| server.watchers(path) == 1).then_some(())).await;
}

fn html() -> Fault {
    Fault::Text("<html>Bad Gateway</html>")
}

#[tokio::test]
async fn a_failed_or_partial_list_changes_nothing() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    watched(&server).await;
    let (seen, notes) = witness(&objects);
    let notes = tokio::spawn(notes);
    for path in [SERVICES, SLICES] {
        server.fail(
            path,
            "list",
            [
                Fault::Status(500, "etcdserver: leader changed"),
                html(),
                Fault::Truncated,
                Fault::Text(""),
                Fault::Text("{}"),
                Fault::Text(r#"{"kind":"Status","status":"Success","code":200}"#),
                Fault::Text(r#"{"kind":"ServiceList","metadata":{},"items":[]}"#),
                Fault::Text(r#"{"kind":"ServiceList","metadata":{"resourceVersion":"9"}}"#),
                Fault::Status(429, "too many requests"),
                Fault::Status(401, "Unauthorized"),
                Fault::Stall,
                // The first page is good, and the second one is not.
                Fault::Text(r#"{"metadata":{"resourceVersion":"9","continue":"0"},"items":[]}"#),
                Fault::Status(410, "the provided continue parameter is too old"),
            ],
        );
    }
    // While all that goes on, one object of each kind goes and one comes; only a full list tells.
    server.cut();
    server.compact();
    server.delete(SERVICES, "ns1/s1");
    server.put(SERVICES, service("s6", 6));
    server.compact();
    server.cut();
    eventually("all faults are met", || server.is_done().then_some(())).await;
    let cluster = wait(&objects, "the new list", |cluster| names(cluster).contains(&"s6".to_owned())).await;
    assert_eq!(names(&cluster), ["s2", "s3", "s4", "s5", "s6"]);
    eventually("no trouble is left", || objects.health.trouble().is_none().then_some(())).await;
    notes.abort();
    for (services, slices) in seen.lock().unwrap().iter() {
        assert!(*services == 5 && *slices >= 4, "a partial picture was published: {seen:?}");
    }
}

#[tokio::test]
async fn an_expired_watch_lists_anew_however_it_is_said() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    watched(&server).await;
    // In the stream, as the server of these tests says it by itself; by the status of the request; at the wrong end.
    for fault in
        [None, Some(Fault::Status(410, "Gone")), Some(Fault::Status(504, "Timeout: Too large resource version: 7"))]
    {
        let lists = objects.health.report().unwrap().resources[0].lists;
        match fault {
            None => server.compact(),
            Some(fault) => server.fail(SERVICES, "watch", [fault]),
        }
        server.cut();
        eventually("listed anew", || (objects.health.report().unwrap().resources[0].lists > lists).then_some(())).await;
        watched(&server).await;
    }
    assert_eq!(names(&objects.cluster.borrow()).len(), 5);
}

#[tokio::test]
async fn lines_that_cannot_be_read_lead_to_a_new_list() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    for garbage in [
        "garbage\n",
        "\n",
        "{\"type\":\"ADDED\"}\n",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVer\n",
        "{\"type\":\"RENAMED\",\"object\":{\"metadata\":{\"name\":\"s1\",\"resourceVersion\":\"9\"}}}\n",
        "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
        "{\"type\":\"ERROR\",\"object\":7}\n",
        "\u{0}\u{1}\u{2}\n",
    ] {
        watched(&server).await;
        let lists = objects.health.report().unwrap().resources[0].lists;
        server.send(SERVICES, garbage);
        eventually(garbage, || (objects.health.report().unwrap().resources[0].lists > lists).then_some(())).await;
        assert_eq!(names(&objects.cluster.borrow()).len(), 5);
    }
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_without_a_new_list() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    watched(&server).await;
    server.send(SERVICES, "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"half\",");
    server.tear(SERVICES);
    watched(&server).await;
    for fault in [Fault::Status(500, "no"), html(), Fault::Status(403, "not you"), Fault::Status(503, "shutting down")]
    {
        server.fail(SERVICES, "watch", [fault.clone()]);
        let lists = server.requests(&format!("list {SERVICES}")).len();
        server.cut();
        eventually("met", || server.is_done().then_some(())).await;
        watched(&server).await;
        assert_eq!(server.requests(&format!("list {SERVICES}")).len(), lists, "{fault:?}");
    }
    server.put(SERVICES, service("s6", 6));
    wait(&objects, "s6", |cluster| cluster.services().count() == 6).await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up() {
    let server = server().await;
    let patience = Patience { quiet: Duration::from_millis(300), ..PATIENCE };
    server.fail(SERVICES, "list", [Fault::Stall]);
    let objects = follow_with(server.address, patience).await;
    let problem = || objects.health.report().unwrap().resources[0].problem.clone();
    let text = eventually("a word about it", problem).await;
    assert!(text.contains("nothing was heard for 1.5 s on an open connection"), "{text}");
    objects.health.complete().await;
    let requests = server.requests(&format!("watch {SERVICES}")).len();
    eventually("watched anew", || (server.requests(&format!("watch {SERVICES}")).len() > requests + 1).then_some(()))
        .await;
    assert_eq!(server.requests(&format!("list {SERVICES}")).len(), 4, "the stalled one and three pages");
}

#[tokio::test]
async fn a_quiet_watch_is_asked_for_again_without_a_word() {
    let server = server().await;
    // Whoever is in trouble waits for an hour.
    let hour = Duration::from_secs(3_600);
    let patience = Patience { quiet: Duration::from_millis(100), first_pause: hour, longest_pause: hour, ..PATIENCE };
    let objects = follow_with(server.address, patience).await;
    objects.health.complete().await;
    for path in ALL {
        let watches = || server.requests(&format!("watch {path}")).len();
        eventually("watched several times", || (watches() >= 4).then_some(())).await;
    }
    assert_eq!(objects.health.trouble(), None);
}

#[tokio::test]
async fn watches_that_end_at_once_are_not_asked_for_without_a_pause() {
    let server = server().await;
    let patience =
        Patience { first_pause: Duration::from_secs(3_600), longest_pause: Duration::from_secs(3_600), ..PATIENCE };
    server.fail(SERVICES, "watch", [Fault::Text("")]);
    let objects = follow_with(server.address, patience).await;
    objects.health.complete().await;
    let (text, _) = eventually("a word about it", || objects.health.trouble()).await;
    assert!(text.contains("a watch ended at once"), "{text}");
    assert_eq!(server.requests(&format!("watch {SERVICES}")).len(), 1);
}

#[tokio::test]
async fn what_the_role_does_not_allow_is_told_until_it_does() {
    let server = server().await;
    let said =
        "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:kube-system:ringway\" cannot list";
    server.fail(SLICES, "list", std::iter::repeat_n(Fault::Status(403, said), 1_000));
    let objects = follow(&server).await;
    let (text, _) = eventually("a word about it", || objects.health.trouble()).await;
    for words in
        ["may not list endpointslices.discovery.k8s.io", "serviceaccount:kube-system:ringway", "deploy/kubernetes.yaml"]
    {
        assert!(text.contains(words), "{text}");
    }
    assert!(text.starts_with(&format!("API server http://{}: ", server.address)), "{text}");
    assert!(!objects.health.is_complete());
    server.recover();
    objects.health.complete().await;
    assert_eq!(objects.cluster.borrow().services().count(), 5);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let objects = follow_with(nobody, PATIENCE).await;
    let (text, _) = eventually("a word about it", || objects.health.trouble()).await;
    assert!(text.contains("Connection refused (os error 111); is it running, and is this its address?"), "{text}");
    assert_eq!((objects.health.is_complete(), objects.health.age()), (false, None));
    let server = server().await;
    // What answers there now is the server of this test.
    let relay = tokio::net::TcpListener::bind(nobody).await.unwrap();
    let forward = tokio::spawn(async move {
        while let Ok((mut near, _)) = relay.accept().await {
            let mut far = tokio::net::TcpStream::connect(server.address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await.ok() });
        }
    });
    objects.health.complete().await;
    assert_eq!(objects.cluster.borrow().services().count(), 5);
    eventually("no trouble is left", || objects.health.trouble().is_none().then_some(())).await;
    forward.abort();
}
