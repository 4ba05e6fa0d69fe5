//! What an API server that works says is what Ringway has.

use ringway_control::parse::{Kind, ObjectKey};
use serde_json::json;

use super::server::{CIDRS, Fault, NODES, SERVICES, SLICES, Server};
use super::*;

#[tokio::test]
async fn nothing_is_there_before_the_first_full_list_of_all_kinds() {
    let server = server().await;
    for last in [NODES, SERVICES, SLICES, CIDRS] {
        server.hold(&[last]);
        let objects = follow(&server).await;
        eventually("all but one are watched", || {
            let others = [NODES, SERVICES, SLICES, CIDRS].into_iter().filter(|path| *path != last);
            others.map(|path| server.watchers(path)).all(|watchers| watchers == 1).then_some(())
        })
        .await;
        // The news of the others is older than this one.
        server.put(SERVICES, service("s5", 5));
        eventually("the change has arrived", || {
            let report = objects.health.report().unwrap();
            (last == SERVICES || report.resources.iter().any(|resource| resource.events > 0)).then_some(())
        })
        .await;
        assert!(!objects.health.is_complete() && !objects.cluster.has_changed().unwrap(), "{last}");
        server.hold(&[]);
        objects.health.complete().await;
        let cluster = wait(&objects, "the first list", |cluster| cluster.services().count() > 0).await;
        assert_eq!(names(&cluster), ["s1", "s2", "s3", "s4", "s5"]);
        assert_eq!(cluster.services().map(|s| cluster.slices_of(&s.name).count()).sum::<usize>(), 5);
        assert_eq!(cluster.service_cidrs().count(), 1);
        assert!(cluster.node("gw-1").is_some() && cluster.node("other").is_none(), "only the own Node is asked for");
        drop(objects);
        eventually("nobody watches", || (SERVICES == last || server.watchers(SERVICES) == 0).then_some(())).await;
        server.cut();
    }
    let pages = server.requests(&format!("list {SERVICES}"));
    assert!(pages.iter().any(|page| page.contains("limit=2") && page.contains("continue=4")), "{pages:?}");
}

#[tokio::test]
async fn a_cluster_without_objects_is_a_full_list_too() {
    let server = Server::start().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    assert_eq!(objects.cluster.borrow().keys().count(), 0);
}

#[tokio::test]
async fn changes_arrive_by_watch_and_a_closed_watch_goes_on_where_it_was() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    eventually("watched", || (server.watchers(SERVICES) == 1 && server.watchers(NODES) == 1).then_some(())).await;
    server.put(SERVICES, service("s6", 6));
    server.delete(SERVICES, "ns1/s1");
    server.put(SLICES, slice("s2", &["10.0.0.2", "10.0.0.20"]));
    server.put(NODES, node("gw-1", "c"));
    wait(&objects, "all changes", |cluster| {
        let slice = cluster.services().find(|s| &*s.name.name == "s2").and_then(|s| cluster.slices_of(&s.name).next());
        names(cluster) == ["s2", "s3", "s4", "s5", "s6"]
            && slice.is_some_and(|slice| slice.endpoints.len() == 2)
            && cluster.node("gw-1").is_some_and(|node| node.labels["topology.kubernetes.io/zone"] == "c")
    })
    .await;
    // What happens while nobody watches is not missed; where to go on is known from the bookmark.
    let version = server.bookmark(SERVICES);
    server.put(SERVICES, service("s7", 7));
    wait(&objects, "s7", |cluster| cluster.services().count() == 6).await;
    let bookmark = server.bookmark(SERVICES);
    let before = server.requests("watch").len();
    // A watch is not heard of at once, so the bookmark may still be on its way: the next change comes behind it.
    server.put(SERVICES, service("s8", 8));
    wait(&objects, "s8", |cluster| cluster.services().count() == 7).await;
    server.cut();
    server.put(SERVICES, service("s9", 9));
    wait(&objects, "s9", |cluster| cluster.services().count() == 8).await;
    let again = server.requests(&format!("watch {SERVICES}"));
    assert!(server.requests("watch").len() > before && bookmark > version);
    assert!(again.last().unwrap().contains(&format!("resourceVersion={}", bookmark + 1)), "{again:?}");
    assert!(again.iter().all(|request| request.contains("allowWatchBookmarks=true")), "{again:?}");
    assert_eq!(server.requests(&format!("list {SERVICES}")).len(), 3, "one list of three pages, no other");
}

#[tokio::test]
async fn what_the_own_node_is_outlives_its_object() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    let zone = |cluster: &ClusterState, zone| {
        cluster.node("gw-1").is_some_and(|node| node.labels["topology.kubernetes.io/zone"] == zone && !node.leaving)
    };
    wait(&objects, "the Node", |cluster| zone(cluster, "a")).await;
    eventually("watched", || (server.watchers(NODES) == 1).then_some(())).await;
    server.delete(NODES, "/gw-1");
    let is_kept = |cluster: &ClusterState| {
        let node = cluster.node("gw-1").expect("what was known of it");
        assert_eq!((node.addresses.len(), node.pod_cidrs.len(), node.labels.len()), (1, 1, 1));
        node.leaving
            && problems(cluster).contains("Node gw-1: the object is gone; its addresses, pod CIDRs and labels stay")
    };
    wait(&objects, "it is gone", is_kept).await;
    // Nor does a new list without it change that.
    let lists = server.requests(&format!("list {NODES}")).len();
    server.compact();
    server.cut();
    eventually("listed anew", || (server.requests(&format!("list {NODES}")).len() > lists).then_some(())).await;
    server.put(SERVICES, service("s6", 6));
    let newer = wait(&objects, "s6", |cluster| cluster.services().count() == 6).await;
    assert!(is_kept(&newer));
    server.put(NODES, node("gw-1", "b"));
    let back = wait(&objects, "it is back", |cluster| zone(cluster, "b")).await;
    assert_eq!(problems(&back), "");
}

#[tokio::test]
async fn a_bookmark_alone_moves_the_place_to_go_on_from() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    let bookmark = server.bookmark(SERVICES);
    // Both travel in one stream: the refused line is read after the bookmark.
    server.fail(SERVICES, "list", [Fault::Status(500, "no list")]);
    server.compact();
    server.send(SERVICES, "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":500,\"message\":\"later\"}}\n");
    let from = format!("resourceVersion={bookmark}");
    eventually("watched from the bookmark", || {
        server.requests(&format!("watch {SERVICES}")).iter().any(|request| request.contains(&from)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_slices_of_headless_services_are_left_out_by_the_api_server() {
    let server = server().await;
    let objects = follow(&server).await;
    objects.health.complete().await;
    let asked = |path: &str| server.requests(&format!("list {path} ")).remove(0);
    assert!(asked(SLICES).contains("labelSelector=%21service.kubernetes.io%2Fheadless"), "{}", asked(SLICES));
    assert!(!asked(SERVICES).contains("Selector"), "{}", asked(SERVICES));
    assert!(asked(NODES).contains("fieldSelector=metadata.name%3Dgw-1"), "{}", asked(NODES));
}

#[tokio::test]
async fn an_object_that_cannot_be_understood_is_refused_by_name_and_the_rest_goes_on() {
    let server = server().await;
    let mut bad = service("bad", 77);
    bad["spec"]["ports"][0]["port"] = json!(70_000);
    server.put(SERVICES, bad);
    let objects = follow(&server).await;
    objects.health.complete().await;
    let cluster = objects.cluster.borrow().clone();
    assert_eq!(names(&cluster), ["s1", "s2", "s3", "s4", "s5"]);
    assert!(
        problems(&cluster).contains("Service ns1/bad: refused: spec.ports[0].port is 70000"),
        "{}",
        problems(&cluster)
    );
    eventually("watched", || (server.watchers(SERVICES) == 1).then_some(())).await;
    let mut broken = service("s1", 1);
    broken["spec"]["type"] = json!("Odd");
    server.put(SERVICES, broken);
    server.put(SERVICES, service("s6", 6));
    let cluster = wait(&objects, "both", |c| c.services().count() == 6 && problems(c).contains("ns1/s1")).await;
    assert!(problems(&cluster).contains("its last good content stays in force"), "{}", problems(&cluster));
    let refused = |objects: &Objects| objects.health.report().unwrap().resources[0].refused;
    assert_eq!(refused(&objects), 2);
    // A list says the same again, and does not take the last good content along.
    server.compact();
    server.cut();
    let lists = || objects.health.report().unwrap().resources[0].lists;
    eventually("listed anew", || (lists() > 1).then_some(())).await;
    server.put(SERVICES, service("s1", 1));
    server.delete(SERVICES, "ns1/bad");
    let cluster = wait(&objects, "all is well", |cluster| problems(cluster).is_empty()).await;
    let key = ObjectKey { kind: Kind::Service, namespace: "ns1".into(), name: "s1".into() };
    assert!(cluster.contains(&key) && cluster.services().count() == 6);
}

#[tokio::test]
async fn service_cidrs_can_be_done_without_and_may_come_later() {
    for refusal in [Fault::Status(403, "servicecidrs is forbidden"), Fault::Status(404, "page not found")] {
        let server = server().await;
        server.fail(CIDRS, "list", std::iter::repeat_n(refusal, 1_000));
        let objects = follow(&server).await;
        objects.health.complete().await;
        let cluster = objects.cluster.borrow().clone();
        assert!(problems(&cluster).contains("ServiceCIDR objects are done without: "), "{}", problems(&cluster));
        assert!(cluster.problems().all(|problem| problem.severity == ringway_control::problem::Severity::Note));
        assert_eq!((objects.health.trouble(), cluster.service_cidrs().count()), (None, 0));
        assert!(objects.health.age().is_some());
        server.recover();
        let cluster = wait(&objects, "granted", |cluster| cluster.service_cidrs().count() == 1).await;
        assert_eq!(problems(&cluster), "");
        // What is no longer allowed later stays as it was, and is asked for again.
        eventually("watched", || (server.watchers(CIDRS) == 1).then_some(())).await;
        server.fail(CIDRS, "watch", [Fault::Status(403, "servicecidrs is forbidden")]);
        server.cut();
        let cluster = wait(&objects, "a note", |cluster| problems(cluster).contains("may not watch")).await;
        assert_eq!(cluster.service_cidrs().count(), 1);
        let cluster = wait(&objects, "allowed again", |cluster| problems(cluster).is_empty()).await;
        assert_eq!(cluster.service_cidrs().count(), 1);
        let unserved = |objects: &Objects| objects.health.report().unwrap().resources[3].unserved.clone();
        assert_eq!(unserved(&objects), None);
    }
}
