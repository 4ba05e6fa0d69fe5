//! Objects from files: what is read, which of two counts, what a broken file keeps, and how soon a change is in force.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_control::cluster::ClusterState;
use ringway_control::source::Objects;
use ringway_control::source::files::{FileSource, load};
use ringway_control::source::watch;

/// A Service whose ClusterIP ends in `last`.
fn service(name: &str, last: u8) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: 172.30.0.{last}\n  ports: [{{port: 80}}]\n"
    )
}

/// The Services in force and the last numbers of their ClusterIPs: `a=1 b=2`.
fn outline(cluster: &ClusterState) -> String {
    let services = cluster.services().map(|service| {
        let last = service.cluster_ips[0].to_string().rsplit('.').next().unwrap().to_owned();
        format!("{}={last}", service.name.name)
    });
    services.collect::<Vec<_>>().join(" ")
}

fn problems(cluster: &ClusterState) -> Vec<String> {
    cluster.problems().map(ToString::to_string).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.path().to_owned()]
    }
}

#[test]
fn of_a_folder_manifests_count_without_those_below_and_hidden_ones() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    folder.write("b.yml", &service("b", 2));
    folder.write(
        "c.json",
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"clusterIP":"172.30.0.3"}}"#,
    );
    folder.write("d.txt", &service("d", 4));
    folder.write("e.YAML", &service("e", 5));
    folder.write(".f.yaml", &service("f", 6));
    folder.write("sub/g.yaml", &service("g", 7));
    folder.write("sub.yaml/h.yaml", &service("h", 8));
    symlink("sub/g.yaml", folder.path("i.yaml")).unwrap();
    symlink("sub", folder.path("j.yaml")).unwrap();
    let cluster = load(&folder.paths()).into_cluster();
    assert_eq!(outline(&cluster), "a=1 b=2 c=3 g=7");
    assert_eq!(problems(&cluster), [""; 0]);
    assert_eq!(outline(FileSource::new(folder.paths()).cluster()), "a=1 b=2 c=3 g=7");
    // A file named on its own is read whatever its name is.
    let named = load(&[folder.path("d.txt"), folder.path(".f.yaml"), folder.path("sub")]).into_cluster();
    assert_eq!(outline(&named), "d=4 f=6 g=7");
}

#[test]
fn of_arguments_the_later_counts_and_of_source_files_the_first_by_name() {
    let folder = Folder::new();
    let a = folder.write("a.yaml", &service("web", 1));
    let b = folder.write("b.yaml", &service("web", 2));
    for (paths, expected) in
        [(folder.paths(), "web=2"), (vec![a.clone(), b.clone()], "web=2"), (vec![b.clone(), a.clone()], "web=1")]
    {
        let cluster = load(&paths).into_cluster();
        assert_eq!(outline(&cluster), expected);
        assert!(problems(&cluster)[0].ends_with("Service default/web: given twice; the later one counts"));
    }
    for paths in [folder.paths(), vec![b.clone(), a.clone()]] {
        let source = FileSource::new(paths);
        assert_eq!(outline(source.cluster()), "web=1");
        let expected = format!(
            "{}: Service default/web: is in {} already, which counts; remove one of the two",
            b.display(),
            a.display()
        );
        assert_eq!(problems(source.cluster()), [expected]);
    }
    // Within one file the later one counts.
    fs::remove_file(&b).unwrap();
    fs::write(&a, service("web", 1) + &service("web", 3)).unwrap();
    assert_eq!(outline(FileSource::new(folder.paths()).cluster()), "web=3");
    assert_eq!(outline(&load(&folder.paths()).into_cluster()), "web=3");
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_counts() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    fs::write(folder.path("b.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    symlink("nowhere", folder.path("c.yaml")).unwrap();
    let paths = [folder.paths(), vec![folder.path("missing")]].concat();
    let watched = FileSource::new(paths.clone()).cluster().clone();
    let absent =
        format!("source.files: {} does not exist; create it, or correct the path", folder.path("missing").display());
    assert!(problems(&watched).contains(&absent), "{:?}", problems(&watched));
    for cluster in [load(&paths).into_cluster(), watched] {
        assert_eq!(outline(&cluster), "a=1");
        let problems = problems(&cluster);
        for (name, what) in [("b.yaml", "it is not valid UTF-8"), ("c.yaml", "No such file")] {
            let start = format!("{}: refused: cannot be read: ", folder.path(name).display());
            assert!(
                problems.iter().any(|problem| problem.starts_with(&start) && problem.contains(what)),
                "{problems:?}"
            );
        }
    }
}

/// A source and a clock of its own, so that nothing waits.
struct Watched {
    source: FileSource,
    now: Instant,
}

impl Watched {
    fn new(folder: &Folder) -> Self {
        Watched { source: FileSource::new(folder.paths()), now: Instant::now() }
    }

    /// Looks twice, with enough time between for files to settle.
    fn settle(&mut self) -> (String, Vec<String>) {
        for _ in 0..2 {
            self.source.refresh(self.now);
            self.now += Duration::from_millis(110);
        }
        (outline(self.source.cluster()), problems(self.source.cluster()))
    }
}

#[test]
fn a_broken_file_keeps_the_last_good_content_of_its_objects() {
    let folder = Folder::new();
    let good = service("a", 1) + &service("b", 2);
    folder.write("x.yaml", &good);
    folder.write("y.yaml", &service("c", 3));
    let mut watched = Watched::new(&folder);
    let kept = "; its last good content stays in force";
    let refused_b = service("b", 9).replace("port: 80", "port: 0");
    for (text, expected, problem) in [
        // Broken as a whole, or in one document: that document may have been any of the objects.
        ("{{{".to_owned(), "a=1 b=2 c=3", "line 1: "),
        (service("a", 8) + "---\nb: [\n", "a=8 b=2 c=3", "line 9: "),
        // One object refused: it keeps what it had, the rest takes effect.
        (service("a", 7) + &refused_b, "a=7 b=2 c=3", kept),
        (
            service("a", 7) + &refused_b.replace("name: b", "name: d"),
            "a=7 c=3",
            "Service default/d: refused: spec.ports[0].port is 0",
        ),
        (good.clone(), "a=1 b=2 c=3", ""),
        // Gone from a good file is deleted.
        (service("b", 2), "b=2 c=3", ""),
        (String::new(), "c=3", ""),
        (good.clone(), "a=1 b=2 c=3", ""),
    ] {
        folder.write("x.yaml", &text);
        let (outline, problems) = watched.settle();
        assert_eq!(outline, expected, "{text}");
        assert_eq!(problems.is_empty(), problem.is_empty(), "{problems:?}");
        assert!(problems.iter().all(|found| found.contains(problem)), "{problem}: {problems:?}");
    }
    fs::write(folder.path("x.yaml"), [0xff, 0xfe]).unwrap();
    let (outline, problems) = watched.settle();
    assert_eq!(outline, "a=1 b=2 c=3");
    assert!(problems[0].contains("cannot be read: ") && problems[0].contains(kept), "{problems:?}");
    fs::remove_file(folder.path("x.yaml")).unwrap();
    assert_eq!(watched.settle(), ("c=3".to_owned(), vec![]));
}

#[test]
fn a_refused_object_is_absent_when_it_never_was_good() {
    let folder = Folder::new();
    folder.write("x.yaml", &(service("a", 1) + &service("b", 2).replace("port: 80", "port: 99999")));
    let source = FileSource::new(folder.paths());
    assert_eq!(outline(source.cluster()), "a=1");
    let expected = "Service default/b: refused: spec.ports[0].port is 99999; a port is a number from 1 to 65535";
    assert_eq!(problems(source.cluster()), [format!("{}: {expected}", folder.path("x.yaml").display())]);
}

#[test]
fn a_file_is_read_when_it_has_settled_and_at_the_latest_after_a_while() {
    let folder = Folder::new();
    let path = folder.write("x.yaml", &service("a", 1));
    let mut source = FileSource::new(folder.paths());
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let half = service("a", 2);
    let half = &half[..half.len() - 20];
    folder.write("x.yaml", half);
    let (changed, again) = source.refresh(at(0));
    assert!(!changed && again.is_some(), "half written: not read yet");
    folder.write("x.yaml", &service("a", 2));
    assert!(!source.refresh(at(60)).0, "it changed again, so the wait begins anew");
    assert!(!source.refresh(at(120)).0);
    assert_eq!(source.refresh(at(170)), (true, None));
    assert_eq!(outline(source.cluster()), "a=2");
    // One that never rests is read all the same.
    let reads = (0..20u64).filter(|n| {
        let text = format!("{}# {n}\n", service("a", 10 + u8::try_from(*n).unwrap()));
        let file = fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
        // Distinct times even where the kernel's clock is coarse.
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 + n)).unwrap();
        source.refresh(at(1000 + 50 * n)).0
    });
    assert_eq!(reads.count(), 2);
}

#[test]
fn a_file_written_just_before_the_start_is_read_once_more() {
    let folder = Folder::new();
    let path = folder.write("x.yaml", &service("a", 1));
    let mut source = FileSource::new(folder.paths());
    // The same size, and mostly within the same tick of the clock that stamps files.
    fs::write(&path, service("a", 2)).unwrap();
    let now = Instant::now();
    source.refresh(now);
    source.refresh(now + Duration::from_millis(110));
    assert_eq!(outline(source.cluster()), "a=2");
}

#[test]
fn a_folder_that_vanishes_keeps_its_objects_and_a_named_file_that_vanishes_takes_them() {
    let folder = Folder::new();
    let named = folder.write("named.yaml", &service("a", 1));
    folder.write("mount/b.yaml", &service("b", 2));
    let mut source = FileSource::new(vec![named.clone(), folder.path("mount")]);
    assert_eq!(outline(source.cluster()), "a=1 b=2");
    fs::remove_file(&named).unwrap();
    fs::remove_dir_all(folder.path("mount")).unwrap();
    let now = Instant::now();
    source.refresh(now);
    source.refresh(now + Duration::from_millis(110));
    assert_eq!(outline(source.cluster()), "b=2");
    let told = [("named.yaml", ""), ("mount", "; what it held stays in force")].map(|(name, kept)| {
        let path = folder.path(name);
        format!("source.files: {} does not exist; create it, or correct the path{kept}", path.display())
    });
    assert_eq!(problems(source.cluster()), told);
    folder.write("mount/c.yaml", &service("c", 3));
    source.refresh(now + Duration::from_millis(220));
    source.refresh(now + Duration::from_millis(330));
    assert_eq!(outline(source.cluster()), "c=3");
}

/// Watches, and waits for the first look.
async fn watch(paths: Vec<PathBuf>) -> tokio::sync::watch::Receiver<Arc<ClusterState>> {
    let Objects { cluster, health } = watch::watch(paths).unwrap();
    tokio::time::timeout(Duration::from_secs(20), health.complete()).await.expect("a first look");
    assert!(health.age().is_some());
    cluster
}

/// Waits until the watched state has this outline, and says how long that took.
async fn reached(state: &mut tokio::sync::watch::Receiver<Arc<ClusterState>>, expected: &str) -> Duration {
    let start = Instant::now();
    let waiting = state.wait_for(|cluster| outline(cluster) == expected);
    let reached = tokio::time::timeout(Duration::from_secs(20), waiting).await.map(|found| drop(found.unwrap()));
    assert!(reached.is_ok(), "{expected} was not reached; it is {}", outline(&state.borrow()));
    start.elapsed()
}

/// A folder as the kubelet mounts a ConfigMap: `..data` leads to the folder of one generation.
fn swap_generation(folder: &Path, generation: u8, last: u8) {
    let name = format!("..{generation}");
    fs::create_dir(folder.join(&name)).unwrap();
    fs::write(folder.join(&name).join("web.yaml"), service("web", last)).unwrap();
    symlink(&name, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test]
async fn changes_are_in_force_within_a_second() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    let mut state = watch(folder.paths()).await;
    assert_eq!(outline(&state.borrow()), "a=1", "the first full list is there at once");
    let mut slowest = Duration::ZERO;
    let mut step = async |change: &dyn Fn(), expected: &str| {
        change();
        slowest = slowest.max(reached(&mut state, expected).await);
    };
    step(&|| drop(folder.write("b.yaml", &service("b", 2))), "a=1 b=2").await;
    step(&|| drop(folder.write("a.yaml", &service("a", 5))), "a=5 b=2").await;
    let replace = || {
        folder.write("new.tmp", &service("a", 6));
        fs::rename(folder.path("new.tmp"), folder.path("a.yaml")).unwrap();
    };
    step(&replace, "a=6 b=2").await;
    step(&|| fs::remove_file(folder.path("b.yaml")).unwrap(), "a=6").await;
    step(&|| fs::rename(folder.path("a.yaml"), folder.path("a.off")).unwrap(), "").await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test]
async fn a_swapped_config_map_is_noticed_also_through_a_link_from_elsewhere() {
    let (mount, folder) = (Folder::new(), Folder::new());
    swap_generation(mount.0.path(), 1, 1);
    symlink("..data/web.yaml", mount.path("web.yaml")).unwrap();
    // Nothing happens in this folder itself when the mount changes.
    symlink(mount.path("web.yaml"), folder.path("web.yaml")).unwrap();
    let mut direct = watch(mount.paths()).await;
    let mut linked = watch(folder.paths()).await;
    for generation in 2..4 {
        swap_generation(mount.0.path(), generation, generation);
        fs::remove_dir_all(mount.path(&format!("..{}", generation - 1))).unwrap();
        let expected = format!("web={generation}");
        let took = reached(&mut direct, &expected).await.max(reached(&mut linked, &expected).await);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn the_watch_survives_a_missing_folder() {
    let folder = Folder::new();
    let later = folder.path("later");
    let mut state = watch(vec![later.clone()]).await;
    assert_eq!(problems(&state.borrow()).len(), 1);
    fs::create_dir(&later).unwrap();
    fs::write(later.join("a.yaml"), service("a", 1)).unwrap();
    reached(&mut state, "a=1").await;
    assert_eq!(problems(&state.borrow()), [""; 0]);
}

#[tokio::test]
async fn a_file_that_takes_long_keeps_no_other_from_being_read() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    let mut state = watch(folder.paths()).await;
    let many: String = (0..15_000).map(|number| service(&format!("s{number}"), 9)).collect();
    folder.write("big.yaml", &many);
    drop(many);
    // While it is being read others change, and are in force before it.
    let mut seen = 0;
    for last in 2..5 {
        folder.write("a.yaml", &service("a", last));
        let waiting = state.wait_for(|cluster| {
            outline(cluster).contains(&format!("a={last} ")) || outline(cluster) == format!("a={last}")
        });
        let reached = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the small file").unwrap();
        seen += usize::from(reached.services().count() == 1);
    }
    assert!(seen > 0, "the large one was there first each time");
    let waiting = state.wait_for(|cluster| cluster.services().count() == 15_001);
    drop(tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the large file").unwrap());
}

#[test]
fn what_could_block_is_said_and_keeps_what_it_had() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("a", 1));
    folder.write("b.yaml", &service("b", 2));
    folder.write("c.yaml", &service("c", 3));
    let mut watched = Watched::new(&folder);
    fs::remove_file(folder.path("a.yaml")).unwrap();
    symlink("/proc/kmsg", folder.path("a.yaml")).unwrap();
    fs::remove_file(folder.path("b.yaml")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, folder.path("b.yaml"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    folder.write("c.yaml", &service("c", 4));
    let (outline, problems) = watched.settle();
    assert_eq!(outline, "a=1 b=2 c=4");
    for (name, words) in [("a.yaml", "it is a file of the kernel"), ("b.yaml", "it is not a regular file")] {
        let start = format!("{}: refused: cannot be read: {words}", folder.path(name).display());
        let said = problems.iter().find(|problem| problem.starts_with(&start)).expect(&start);
        assert!(said.ends_with("; its last good content stays in force"), "{said}");
    }
    assert_eq!(problems.len(), 2);
}
