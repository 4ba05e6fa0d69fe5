use super::*;
use crate::cluster::ClusterState;
use crate::compile::{CompileOptions, Memory, compile};
use crate::parse::Document;
use crate::source::manifest;

fn targets(texts: &[&str]) -> Vec<Target> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn listed(keeper: &Keeper) -> String {
    let all = keeper.list();
    all.iter().map(|(target, drain)| format!("{target}{} ", if drain.kept { "!" } else { "" })).collect()
}

#[test]
fn what_is_kept_outlives_the_process_and_the_rest_does_not() {
    let state = tempfile::tempdir().unwrap();
    let keeper = Keeper::read(state.path());
    keeper.drain(&targets(&["10.0.0.1:80", "10.0.0.2"]), false).unwrap();
    keeper.drain(&targets(&["10.0.0.2", "[fd00::1]:80"]), true).unwrap();
    assert_eq!(listed(&keeper), "10.0.0.1:80 10.0.0.2! [fd00::1]:80! ");
    keeper.drain(&targets(&["10.0.0.2"]), false).unwrap();
    assert_eq!(listed(&keeper), "10.0.0.1:80 10.0.0.2! [fd00::1]:80! ", "kept once, kept until it is taken back");
    assert!(keeper.watch().borrow().has("10.0.0.2".parse().unwrap(), 9));
    let next = Keeper::read(state.path());
    assert_eq!(listed(&next), "10.0.0.2! [fd00::1]:80! ");
    next.undrain(&targets(&["10.0.0.2"])).unwrap();
    assert_eq!(listed(&Keeper::read(state.path())), "[fd00::1]:80! ");
    next.undrain_all().unwrap();
    assert!(!state.path().join(FILE).exists());
}

#[test]
fn a_line_that_names_no_endpoint_is_left_out() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join(FILE), "rubbish\n\n10.0.0.1:80\n").unwrap();
    assert_eq!(listed(&Keeper::read(state.path())), "10.0.0.1:80! ");
    std::fs::write(state.path().join(FILE), "10.0.0.1:80 soon\n10.0.0.2 1 -1\n10.0.0.3 1 2 3\n").unwrap();
    assert_eq!(listed(&Keeper::read(state.path())), "10.0.0.3! ", "what comes with a later version is left alone");
}

#[test]
fn no_more_are_read_than_can_be_drained() {
    let state = tempfile::tempdir().unwrap();
    let line = |n: u32| format!("{}\n", std::net::Ipv4Addr::from(n));
    std::fs::write(state.path().join(FILE), (0..5000).map(line).collect::<String>()).unwrap();
    assert_eq!(Keeper::read(state.path()).list().len(), MOST);
    let (_, problems) = Moment::now().read(&std::fs::read_to_string(state.path().join(FILE)).unwrap());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("904 lines beyond 4096 endpoints are left out: "), "{problems:?}");
}

#[test]
fn what_is_meant_twice_is_taken_back_once() {
    let state = tempfile::tempdir().unwrap();
    for asked in [["10.0.0.1", "10.0.0.1:80"], ["10.0.0.1:80", "10.0.0.1"], ["10.0.0.1", "10.0.0.1"]] {
        let keeper = Keeper::read(state.path());
        keeper.drain(&targets(&["10.0.0.1:80", "10.0.0.2"]), false).unwrap();
        keeper.undrain(&targets(&asked)).unwrap();
        assert_eq!(listed(&keeper), "10.0.0.2 ", "{asked:?}");
        assert!(keeper.undrain(&targets(&["10.0.0.2", "10.0.0.1:80"])).unwrap_err().starts_with("10.0.0.1:80 is not"));
    }
}

/// So long after a moment, by both clocks.
fn later(moment: Moment, seconds: u64) -> Moment {
    let by = Duration::from_secs(seconds);
    Moment { instant: moment.instant + by, time: moment.time + by }
}

#[test]
fn the_time_without_a_process_counts_for_an_address_that_may_be_another_endpoint_by_now() {
    let state = tempfile::tempdir().unwrap();
    let begin = Moment::now();
    let both = services("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}");
    let keeper = Keeper::read(state.path());
    keeper.drain(&targets(&["10.0.0.1:80", "10.0.0.2"]), true).unwrap();
    // An hour later one of them is named still.
    keeper.look(&services("{addresses: [10.0.0.1]}"), later(begin, 3600).instant);
    keeper.note(later(begin, 3660)).unwrap();
    let after = |seconds: u64| {
        let now = later(begin, 3660 + seconds);
        let next = Keeper::read_at(state.path(), now);
        let since = next.list().iter().map(|(_, drain)| (now.instant - drain.since).as_secs()).min();
        assert!(since.is_some_and(|since| since >= 3659 + seconds), "{since:?}");
        next.look(&both, now.instant);
        let left = listed(&next);
        // The next one begins with the same file.
        keeper.note(later(begin, 3660)).unwrap();
        left
    };
    assert_eq!(after(10), "10.0.0.1:80! 10.0.0.2! ", "a restart");
    assert_eq!(after(200), "10.0.0.1:80! 10.0.0.2! ");
    assert_eq!(after(320), "10.0.0.1:80! ", "one was gone for a while before");
    assert_eq!(after(400), "", "nobody knows whose the addresses are");
}

#[test]
fn a_file_without_times_and_one_of_another_clock_are_read() {
    let state = tempfile::tempdir().unwrap();
    let both = services("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}");
    std::fs::write(state.path().join(FILE), "10.0.0.1:80\n10.0.0.2 99999999999 99999999999\n").unwrap();
    let keeper = Keeper::read(state.path());
    keeper.look(&both, Instant::now());
    assert_eq!(listed(&keeper), "10.0.0.1:80! 10.0.0.2! ");
    assert!(keeper.list().iter().all(|(_, drain)| drain.since.elapsed() < Duration::from_secs(60)));
}

#[test]
fn what_cannot_be_written_down_or_is_not_drained_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let keeper = Keeper::read(&state.path().join("nowhere"));
    let error = keeper.drain(&targets(&["10.0.0.1"]), true).unwrap_err();
    assert!(error.starts_with("cannot write ") && error.contains("nothing was changed"), "{error}");
    assert_eq!(listed(&keeper), "");
    keeper.drain(&targets(&["10.0.0.1"]), false).unwrap();
    assert_eq!(
        keeper.undrain(&targets(&["10.0.0.1:80"])).unwrap_err(),
        "10.0.0.1:80 is drained with all ports of its address; write ringway undrain 10.0.0.1"
    );
    assert_eq!(
        keeper.undrain(&targets(&["10.0.0.1", "10.0.0.2"])).unwrap_err(),
        "10.0.0.2 is not drained; ringway drain --list says what is"
    );
    assert_eq!(listed(&keeper), "10.0.0.1 ", "all of it or nothing");
    let many: Vec<Target> =
        (0..MOST as u32).map(|n| Target { address: std::net::Ipv4Addr::from(n).into(), port: None }).collect();
    assert!(keeper.drain(&many, false).unwrap_err().contains("4096 are the most"));
    assert_eq!(listed(&keeper), "10.0.0.1 ");
}

fn services(endpoints: &str) -> Services {
    let text = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{clusterIP: 172.30.0.1, ports: [{{port: 80}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}},\n\
         addressType: IPv4, ports: [{{port: 80}}], endpoints: [{endpoints}]}}"
    );
    let mut cluster = ClusterState::default();
    for document in manifest::read(&text).documents {
        let Document::Taken(parsed) = document else { panic!("{document:?}") };
        cluster.apply(parsed, None);
    }
    compile(&cluster, &CompileOptions::default(), &mut Memory::new()).services
}

#[test]
fn an_address_that_comes_back_after_a_while_is_another_endpoint() {
    let state = tempfile::tempdir().unwrap();
    let keeper = Keeper::read(state.path());
    keeper.drain(&targets(&["10.0.0.1:80", "10.0.0.2"]), true).unwrap();
    let (both, second) =
        (services("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}"), services("{addresses: [10.0.0.2]}"));
    let begin = Instant::now();
    keeper.look(&both, begin);
    keeper.look(&second, begin);
    keeper.look(&both, begin + FORGOTTEN - Duration::from_secs(1));
    keeper.look(&both, begin + FORGOTTEN);
    assert_eq!(listed(&keeper), "10.0.0.1:80! 10.0.0.2! ", "a slice that was written anew");
    keeper.look(&second, begin + FORGOTTEN);
    keeper.look(&second, begin + 2 * FORGOTTEN);
    assert_eq!(listed(&keeper), "10.0.0.1:80! 10.0.0.2! ");
    keeper.look(&both, begin + 2 * FORGOTTEN);
    assert_eq!(listed(&keeper), "10.0.0.2! ");
    assert_eq!(listed(&Keeper::read(state.path())), "10.0.0.2! ");
}

#[test]
fn an_address_and_a_port_of_it_are_both_forgotten_and_what_cannot_be_is_tried_again() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("there");
    std::fs::create_dir(&folder).unwrap();
    let keeper = Keeper::read(&folder);
    keeper.drain(&targets(&["10.0.0.1", "10.0.0.1:80", "10.0.0.1:90"]), true).unwrap();
    let (both, second) =
        (services("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}"), services("{addresses: [10.0.0.2]}"));
    let begin = Instant::now();
    keeper.look(&second, begin);
    // Nothing can be written to the state folder for a while.
    let away = state.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    keeper.look(&both, begin + FORGOTTEN);
    assert_eq!(listed(&keeper), "10.0.0.1! 10.0.0.1:80! 10.0.0.1:90! ");
    std::fs::rename(&away, &folder).unwrap();
    keeper.look(&both, begin + FORGOTTEN);
    assert_eq!(listed(&keeper), "10.0.0.1:90! ");
    assert_eq!(listed(&Keeper::read(&folder)), "10.0.0.1:90! ");
}
