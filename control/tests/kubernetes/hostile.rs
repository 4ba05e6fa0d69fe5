//! An API server that sends too much, too slowly or for ever costs a bounded amount of memory, and nothing is lost by it.

use super::server::{FOR_EVER, Fault, NODES, SERVICES, SLICES};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The most memory that this process ever took, in MiB. Tests of this file run beside each other in it.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

/// All tests of this binary together stay below it; without bounds each of these takes more.
const MOST_MEMORY: usize = 400;

fn assert_memory() {
    assert!(most_memory() < MOST_MEMORY, "{} MiB", most_memory());
}

async fn trouble(objects: &Objects, words: &str) {
    let told = || objects.health.report().unwrap().resources.into_iter().filter_map(|resource| resource.problem);
    eventually(words, || told().any(|problem| problem.contains(words)).then_some(())).await;
}

const SERVICE: &str = r#"{"metadata":{"name":"a","namespace":"n"},"spec":{"clusterIP":"172.30.0.1"}}"#;

#[tokio::test]
async fn nameless_events_are_counted_and_a_few_are_told() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    let event = |number: usize| {
        format!(
            "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"/{number}\",\"resourceVersion\":\"9\"}}}}}}\n"
        )
    };
    const EVENTS: usize = 50_000;
    server.send(SERVICES, &(0..EVENTS).map(event).collect::<String>());
    server.put(SERVICES, service("s6", 6));
    let cluster = wait(&objects, "the change behind them", |cluster| cluster.services().count() == 6).await;
    assert_eq!(objects.health.report().unwrap().resources[0].refused, EVENTS as u64);
    let told = problems(&cluster);
    assert_eq!(told.lines().count(), 21, "{told}");
    assert!(
        told.contains("a Service is refused: metadata.name is \"/0\"") && told.contains("or more like these"),
        "{told}"
    );
    // A good list makes them forgotten.
    server.compact();
    server.cut();
    wait(&objects, "all is well", |cluster| problems(cluster).is_empty()).await;
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up_and_the_objects_stay() {
    let server = server().await;
    let limits = Limits { objects: 2_000, ..Limits::DEFAULT };
    let objects = follow_within(server.address, PATIENCE, limits).await;
    objects.health.complete().await;
    let again = r#"{"metadata":{"continue":"same"},"items":[]}"#;
    for (path, faults, words) in [
        (SERVICES, vec![Fault::Endless(SERVICE, 100)], "a list of Service objects has more than 2000 objects"),
        (
            SLICES,
            vec![Fault::Endless("", 0)],
            "a list of EndpointSlice objects has more than 10 pages in a row without",
        ),
        (
            NODES,
            vec![Fault::Text(again); 2],
            "a list of Node objects has pages that lead back to one that was read already",
        ),
    ] {
        server.fail(path, "list", faults);
        server.compact();
        server.cut();
        trouble(&objects, words).await;
        assert_eq!(names(&objects.cluster.borrow()), ["s1", "s2", "s3", "s4", "s5"]);
    }
}

#[tokio::test]
async fn a_page_that_never_ends_takes_no_memory() {
    for (first, again, words) in [
        // Objects, all of the same name or not: what is taken is counted before it is known.
        (
            r#"{"metadata":{"resourceVersion":"9"},"items":[{}"#,
            concat!(",", r#"{"metadata":{"name":"a"}}"#),
            "more than 10000 objects",
        ),
        (r#"{"items":[{"metadata":{"name":""#, "x", "was not complete after"),
        (r#"{"items":[{}"#, "                                ", "was not complete after"),
        (r#"{"items":[{"a":"#, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "was not complete after"),
        (r#"{"items":[],"metadata":{"continue":""#, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "was not complete after"),
        (r#"{"items":[],"#, r#""a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","#, "was not complete after"),
    ] {
        let server = server().await;
        server.fail(SERVICES, "list", [Fault::Flood(200, first, again, FOR_EVER, "")]);
        let list = Duration::from_secs(if words.contains("objects") { 25 } else { 2 });
        let patience = Patience { list, ..PATIENCE };
        let limits = Limits { objects: 10_000, ..Limits::DEFAULT };
        let objects = follow_within(server.address, patience, limits).await;
        trouble(&objects, words).await;
        assert_memory();
    }
}

#[tokio::test]
async fn an_object_that_is_too_long_is_left_out_and_the_rest_counts() {
    let server = server().await;
    let first = r#"{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"b"},"x":""#;
    let last = r#""},{"metadata":{"name":"a"},"spec":{"clusterIP":"172.30.0.1"}}]}"#;
    server.fail(SERVICES, "list", [Fault::Flood(200, first, "0123456789abcdef", 8 << 20, last)]);
    let objects = follow(&server).await;
    objects.health.complete().await;
    let cluster = wait(&objects, "the other one", |cluster| names(cluster) == ["a"]).await;
    let told = problems(&cluster);
    assert!(told.contains("a Service is left out: it is longer than 4194304 bytes"), "{told}");
    assert_memory();
}

#[tokio::test]
async fn a_watch_that_adds_objects_for_ever_is_bounded_and_what_is_there_stays() {
    let server = server().await;
    let limits = Limits { objects: 1_000, refused: 100, ..Limits::DEFAULT };
    let objects = follow_within(server.address, PATIENCE, limits).await;
    objects.health.complete().await;
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    for number in 0..2_000 {
        server.put(SERVICES, service(&format!("t{number}"), 9));
    }
    for number in 0..2_000 {
        let mut bad = service(&format!("u{number}"), 9);
        bad["spec"]["type"] = json!("Odd");
        server.put(SERVICES, bad);
    }
    server.put(SERVICES, service("s5", 55));
    let is_last = |cluster: &ClusterState| {
        cluster.services().any(|s| &*s.name.name == "s5" && s.cluster_ips[0].to_string() == "172.30.0.55")
    };
    let cluster = wait(&objects, "the change behind them", is_last).await;
    assert_eq!(cluster.services().count(), 1_000);
    let told = problems(&cluster);
    assert!(told.contains("is left out: there are 1000 objects of a kind"), "{told}");
    assert!(told.lines().count() <= 100 + 21, "{}", told.lines().count());
    // What goes leaves room.
    server.delete(SERVICES, "ns1/s1");
    server.put(SERVICES, service("v", 7));
    wait(&objects, "the new one", |cluster| names(cluster).contains(&"v".to_owned())).await;
}

#[tokio::test]
async fn lines_of_a_watch_and_answers_that_say_no_are_bounded() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    for (fault, words) in [
        (
            Fault::Flood(200, "{\"type\":\"ADDED\",\"object\":{\"x\":\"", "xxxxxxxx", FOR_EVER, ""),
            "a line of a watch is longer",
        ),
        (Fault::Flood(200, "", "\n", FOR_EVER, ""), "an answer cannot be read"),
        (Fault::Flood(500, "", "<p>no</p>", FOR_EVER, ""), "the API server answers 500: <p>no</p>"),
        (Fault::Flood(302, "", "elsewhere ", FOR_EVER, ""), "the API server answers 302: elsewhere"),
    ] {
        server.fail(SERVICES, "watch", [fault]);
        server.fail(SERVICES, "list", std::iter::repeat_n(Fault::Stall, 5));
        server.cut();
        trouble(&objects, words).await;
        server.recover();
        eventually("watched again", || (server.watchers(SERVICES) == 1).then_some(())).await;
    }
    let huge = format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{}\"}}}}}}\n",
        "9".repeat(1_000)
    );
    server.send(SERVICES, &huge);
    trouble(&objects, "without resourceVersion").await;
    assert_memory();
}

/// A server that answers every connection by this.
async fn raw<F: Future<Output = std::io::Result<()>> + Send>(
    answer: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = answer(stream).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn heads_without_end_and_answers_in_drops_are_given_up() {
    let patience = Patience { answer: Duration::from_millis(500), list: Duration::from_secs(2), ..PATIENCE };
    let told = async |address, words: &str| {
        let objects = follow_with(address, patience).await;
        trouble(&objects, words).await;
        assert_memory();
    };
    let headers = raw(async |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            stream
                .write_all(&b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(100))
                .await?;
        }
    });
    told(headers.await, "").await;
    let long = raw(async |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-a: ").await?;
        loop {
            stream.write_all(&[b'b'; 10_000]).await?;
        }
    });
    told(long.await, "").await;
    let informed = raw(async |mut stream: TcpStream| {
        loop {
            stream.write_all(&b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)).await?;
        }
    });
    told(informed.await, "nothing was heard for 0.5 s").await;
    let drops = raw(async |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{\"items\":[").await?;
        loop {
            stream.write_all(b" ").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    told(drops.await, "a list was not complete after 2 s").await;
}

#[tokio::test]
async fn a_line_in_drops_is_given_up() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    let said = async {
        loop {
            server.send(SERVICES, " ");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = trouble(&objects, "nothing was heard for 1.5 s") => {}
        () = said => {}
    }
}

#[tokio::test]
async fn lists_do_not_follow_one_another_without_a_pause() {
    let server = server().await;
    let patience =
        Patience { first_pause: Duration::from_millis(4), longest_pause: Duration::from_secs(3_600), ..PATIENCE };
    // Each watch begins well: it moves the place on. Then it sends what makes all be listed anew.
    let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"1000000\"}}}\ngarbage\n";
    server.fail(SERVICES, "watch", std::iter::repeat_n(Fault::Text(bookmark), 1_000));
    let began = std::time::Instant::now();
    let objects = follow_with(server.address, patience).await;
    const LISTS: u32 = 7;
    let lists = || {
        server
            .requests(&format!("list {SERVICES}?"))
            .len()
            .max(objects.health.report().unwrap().resources[0].lists as usize)
    };
    eventually("lists", || (lists() >= LISTS as usize).then_some(())).await;
    // Pauses double, and are halved at most.
    let least = Duration::from_millis(4) * (2u32.pow(LISTS - 1) - 1) / 2;
    assert!(began.elapsed() >= least, "{LISTS} lists within {:?}", began.elapsed());
}

#[tokio::test]
async fn watches_that_end_early_are_not_asked_for_without_a_pause() {
    let server = server().await;
    let hour = Duration::from_secs(3_600);
    let patience = Patience { first_pause: hour, longest_pause: hour, ..PATIENCE };
    let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"1000000\"}}}\n";
    for path in [SERVICES, SLICES] {
        server.fail(path, "watch", std::iter::repeat_n(Fault::Text(bookmark), 1_000));
    }
    let objects = follow_with(server.address, patience).await;
    objects.health.complete().await;
    eventually("both are asked for", || {
        [SERVICES, SLICES].iter().all(|path| !server.requests(&format!("watch {path}")).is_empty()).then_some(())
    })
    .await;
    // Whatever is asked for without a pause comes before this.
    server.put(NODES, node("gw-1", "z"));
    wait(&objects, "the Node", |cluster| {
        cluster.node("gw-1").is_some_and(|n| n.labels["topology.kubernetes.io/zone"] == "z")
    })
    .await;
    for path in [SERVICES, SLICES] {
        assert_eq!(server.requests(&format!("watch {path}")).len(), 1);
    }
    assert_eq!(objects.health.trouble(), None);
}

#[tokio::test]
async fn other_nodes_are_left_out_although_the_server_sends_them() {
    let server = server().await;
    let all =
        r#"{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"x"}},{"metadata":{"name":"gw-1"}}]}"#;
    server.fail(NODES, "list", [Fault::Text(all)]);
    let objects = follow(&server).await;
    objects.health.complete().await;
    let nodes = objects.cluster.borrow().keys().filter(|key| key.kind == ringway_control::parse::Kind::Node).count();
    assert_eq!(nodes, 1);
}

#[tokio::test]
async fn objects_of_another_kind_are_not_taken_for_those_that_were_asked_for() {
    let server = server().await;
    let mixed = r#"{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"1000"},"items":[
        {"metadata":{"name":"plain","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.1"}},
        {"kind":"Service","apiVersion":"v1","metadata":{"name":"named","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.2"}},
        {"kind":"Service","metadata":{"name":"half","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.3"}},
        {"kind":"Pod","apiVersion":"v1","metadata":{"name":"pod","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.4"}},
        {"kind":"Service","apiVersion":"serving.knative.dev/v1","metadata":{"name":"group","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.5"}},
        {"apiVersion":"apps/v1","metadata":{"name":"version","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.6"}},
        {"kind":["Service"],"metadata":{"name":"odd","namespace":"ns1"},"spec":{"clusterIP":"172.30.0.7"}}]}"#;
    server.fail(SERVICES, "list", [Fault::Text(mixed)]);
    let objects = follow(&server).await;
    objects.health.complete().await;
    let cluster = wait(&objects, "the list", |cluster| cluster.services().count() > 0).await;
    assert_eq!(names(&cluster), ["half", "named", "plain"]);
    let told = problems(&cluster);
    for what in
        ["kind \"Pod\" came in place of a Service", "\"serving.knative.dev/v1\"", "\"apps/v1\"", "kind a list came"]
    {
        assert!(told.contains(what), "{what}: {told}");
    }
    assert_eq!(objects.health.report().unwrap().resources[0].refused, 4);
    // As what a watch brings, they neither change nor delete the Services of that name.
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    let event = |type_: &str, kind: &str, ip: u8| {
        format!(
            "{{\"type\":\"{type_}\",\"object\":{{\"kind\":\"{kind}\",\"metadata\":{{\"name\":\"plain\",\"namespace\":\"ns1\",\
             \"resourceVersion\":\"9\"}},\"spec\":{{\"clusterIP\":\"172.30.1.{ip}\"}}}}}}\n"
        )
    };
    server.send(SERVICES, &[event("MODIFIED", "Pod", 1), event("ADDED", "Endpoints", 2)].concat());
    server.send(SERVICES, &event("ADDED", "Service", 3).replace("plain", "last"));
    let cluster = wait(&objects, "the change behind them", |cluster| cluster.services().count() == 4).await;
    let plain = cluster.services().find(|service| &*service.name.name == "plain").unwrap().clone();
    assert_eq!(plain.cluster_ips[0].to_string(), "172.30.0.1");
    for (type_, words) in [("DELETED", "a deleted object: an object with kind"), ("BOOKMARK", "a bookmark: an object")]
    {
        eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
        server.fail(SERVICES, "list", [Fault::Stall, Fault::Text(mixed)]);
        let watches = server.requests(&format!("watch {SERVICES}")).len();
        server.send(SERVICES, &event(type_, "Pod", 4));
        trouble(&objects, words).await;
        assert!(names(&objects.cluster.borrow()).contains(&"plain".to_owned()));
        let again = || server.requests(&format!("watch {SERVICES}")).len() > watches;
        eventually("watched again", || again().then_some(())).await;
    }
}

#[tokio::test]
async fn a_list_of_another_kind_is_none_of_those_that_were_asked_for() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    for (list, words) in [
        (r#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":[]}"#, "kind \"PodList\" in place of a list"),
        (r#"{"metadata":{"resourceVersion":"9"},"items":[],"kind":"Status"}"#, "kind \"Status\" in place of a list"),
        (
            r#"{"kind":"ServiceList","apiVersion":"serving.knative.dev/v1","metadata":{"resourceVersion":"9"},"items":null}"#,
            "apiVersion \"serving.knative.dev/v1\" and kind \"ServiceList\" in place",
        ),
        (r#"{"kind":7,"metadata":{"resourceVersion":"9"},"items":[]}"#, "kind is no text"),
    ] {
        server.fail(SERVICES, "list", [Fault::Text(list), Fault::Stall]);
        server.compact();
        server.cut();
        trouble(&objects, words).await;
        assert_eq!(names(&objects.cluster.borrow()), ["s1", "s2", "s3", "s4", "s5"]);
        server.recover();
    }
}
