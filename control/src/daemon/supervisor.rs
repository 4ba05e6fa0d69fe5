//! What the supervisor is told that started this process: systemd, or who else speaks its protocol (`sd_notify`).
//!
//! It names its socket in `NOTIFY_SOCKET`; without one nobody is told anything. `READY=1` says that workers run, interfaces
//! are attached and doors are open, and waits for no API server: whether objects are in force is in `STATUS=`, as in
//! `/healthz`. A start that takes long says `EXTEND_TIMEOUT_USEC=` while it goes on, so that it is not cut off half done.
//! `WATCHDOG=1` is said as long as `/livez` answers 200 and no longer, so that a process in which something hangs is started
//! anew. Nothing here ever waits for the supervisor.

use std::env::var_os;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::health::Health;
use crate::watch::{BEAT, heart};

/// Messages that wait for the supervisor to read others.
const WAITING: usize = 16;
/// How often a message is tried again that the supervisor had no room for.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest status, in bytes.
const LONGEST: usize = 500;
/// How long a start may go on without another word that it does: a driver may take its time.
const START: Duration = Duration::from_secs(60);

/// The way to the supervisor, if there is one.
#[derive(Clone, Default)]
pub(super) struct Supervisor(Option<Arc<Line>>);

struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants to hear that all is well.
    watchdog: Option<Duration>,
    news: mpsc::Sender<String>,
}

/// What waits to be told.
pub(super) struct News(mpsc::Receiver<String>);

impl Supervisor {
    /// The one that the environment names.
    pub(super) fn of_environment() -> (Self, News) {
        let Some(name) = var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::nobody() };
        let number = |name| var_os(name)?.to_str()?.parse::<u64>().ok();
        // The process that is watched may be another, which started this one.
        let is_meant = var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_meant && *micros > 0).map(Duration::from_micros);
        Self::at(&name, watchdog).unwrap_or_else(|error| {
            let name = name.display();
            tracing::warn!(
                "NOTIFY_SOCKET: {name} cannot be used, so no supervisor is told that this process runs: {error}"
            );
            Self::nobody()
        })
    }

    fn nobody() -> (Self, News) {
        (Supervisor(None), News(mpsc::channel(1).1))
    }

    /// The one at this socket: a path, or an abstract name after `@`.
    fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<(Self, News)> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path from the root nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let (news, waiting) = mpsc::channel(WAITING);
        Ok((Supervisor(Some(Arc::new(Line { socket, address, watchdog, news }))), News(waiting)))
    }

    /// That the configuration is being read anew.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// That it serves, after the start or a reload.
    pub(super) fn ready(&self) {
        self.tell("READY=1".into());
    }

    /// How far a start is that takes long. At once, and not again where there is no room: there is more to tell in a moment.
    pub(super) fn starting(&self, status: &str) {
        if let Some(line) = &self.0 {
            let _ = line.say(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", START.as_micros(), shown(status)));
        }
    }

    /// That the end has begun. At once: nobody comes to say it later.
    pub(super) fn stopping(&self) {
        if let Some(line) = &self.0 {
            let _ = line.say("STOPPING=1\nSTATUS=ending");
        }
    }

    fn tell(&self, message: String) {
        if let Some(line) = &self.0 {
            // There is always room: reloads are done one by one, and each is told before the next begins or soon after.
            let _ = line.news.try_send(message);
        }
    }

    /// Tells what there is to be told, and that all is well while it is. It does not end.
    pub(super) async fn follow(self, mut news: News, health: Arc<Health>) {
        let heart = heart("the word to the supervisor");
        let Some(line) = &self.0 else { return heart.waiting(std::future::pending()).await };
        // Twice as often as it takes for one to be late.
        let every = line.watchdog.map_or(BEAT, |watchdog| (watchdog / 4).clamp(Duration::from_millis(10), BEAT));
        let (mut fed, mut status) = (None::<Instant>, String::new());
        loop {
            heart.beat();
            if line.watchdog.is_some()
                && fed.is_none_or(|fed| fed.elapsed() >= every)
                && health.reasons_to_restart().is_empty()
                && line.say("WATCHDOG=1").is_ok()
            {
                fed = Some(Instant::now());
            }
            let now = shown(&health.summary());
            if now != status && line.say(&format!("STATUS={now}")).is_ok() {
                status = now;
            }
            if let Ok(Some(message)) = timeout(every, news.0.recv()).await {
                line.insist(&message).await;
            }
        }
    }
}

impl Line {
    /// Says it, if there is room.
    fn say(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }

    /// Says it as soon as there is room, while there is somebody to hear it.
    async fn insist(&self, message: &str) {
        for _ in 0..(BEAT.as_millis() / AGAIN.as_millis()) * 5 {
            match self.say(message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(AGAIN).await,
                Err(error) => return tracing::warn!("the supervisor cannot be told {message:?}: {error}"),
                Ok(()) => return,
            }
        }
        tracing::warn!("the supervisor reads nothing; it was not told {message:?}");
    }
}

/// A status on one line.
fn shown(status: &str) -> String {
    let mut shown = status.replace(['\n', '\r'], " ");
    shown.truncate(shown.floor_char_boundary(LONGEST));
    shown
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::UnixDatagram as Listener;
    use tokio::sync::watch;

    use super::*;
    use crate::daemon::health::Known;
    use crate::publish::Published;
    use crate::report::interfaces::InterfaceReport;
    use crate::source::health::SourceHealth;
    use crate::watch::Hearts;

    /// A health that is ready while `hearts` beat.
    fn health(hearts: &Hearts) -> Arc<Health> {
        let published = Published { ready: true, in_force: true, ..Published::default() };
        let up = InterfaceReport { up: true, mode: Some("native".into()), ..InterfaceReport::default() };
        let known = Known {
            published: watch::channel(Arc::new(published)).1,
            cluster: watch::channel(Arc::default()).1,
            interfaces: watch::channel(Arc::from([up])).1,
            hearts: hearts.clone(),
        };
        Health::new(known, SourceHealth::of_files(), "gw-1")
    }

    async fn hear(listener: &Listener) -> String {
        let mut message = [0; 4096];
        let length = timeout(Duration::from_secs(20), listener.recv(&mut message)).await.expect("a message").unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    async fn hear_until(listener: &Listener, word: &str) -> Vec<String> {
        let mut heard = vec![hear(listener).await];
        while !heard.last().unwrap().contains(word) {
            heard.push(hear(listener).await);
        }
        heard
    }

    fn at(path: &Path, watchdog: Option<Duration>) -> (Supervisor, News) {
        Supervisor::at(path.as_os_str(), watchdog).unwrap()
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_everything_makes_progress_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = Listener::bind(&path).unwrap();
        let hearts = Hearts::default();
        let worker = hearts.heart("worker 0", None);
        let (supervisor, news) = at(&path, Some(Duration::from_millis(40)));
        supervisor.ready();
        let follow = tokio::spawn(supervisor.clone().follow(news, health(&hearts)));
        let heard = hear_until(&listener, "READY=1").await;
        assert!(heard.contains(&"STATUS=ready: 0 frontends and 0 VIPs are in force".to_owned()), "{heard:?}");
        for _ in 0..3 {
            hear_until(&listener, "WATCHDOG=1").await;
        }
        // The worker hangs: the status tells for how long, and meanwhile nobody says that all is well.
        let turns = |count: u32| (0..count).for_each(|_| hearts.turn());
        turns(32);
        hear_until(&listener, "STATUS=not ready: no progress for 8 s: worker 0").await;
        for lasts in 9..14 {
            turns(4);
            let heard = hear_until(&listener, &format!("no progress for {lasts} s")).await;
            assert_eq!(heard.len(), 1, "{heard:?}");
        }
        worker.beat();
        hear_until(&listener, "STATUS=ready").await;
        hear_until(&listener, "WATCHDOG=1").await;
        supervisor.stopping();
        hear_until(&listener, "STOPPING=1").await;
        follow.abort();
    }

    #[tokio::test]
    async fn what_the_supervisor_has_no_room_for_is_said_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = Listener::bind(&path).unwrap();
        let (supervisor, news) = at(&path, None);
        let line = supervisor.0.clone().unwrap();
        let mut filled = 0;
        while line.say("X=1").is_ok() {
            filled += 1;
        }
        supervisor.reloading();
        supervisor.ready();
        let follow = tokio::spawn(supervisor.follow(news, health(&Hearts::default())));
        let heard = hear_until(&listener, "RELOADING=1\nMONOTONIC_USEC=").await;
        assert!(heard.len() > filled, "{} of {filled}", heard.len());
        hear_until(&listener, "READY=1").await;
        follow.abort();
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        let name = |name: &str| Supervisor::at(OsStr::new(name), None).map(drop).map_err(|error| error.to_string());
        assert_eq!(name("@ringway"), Ok(()));
        assert_eq!(name("/run/systemd/notify"), Ok(()));
        assert_eq!(name("vsock:2:1"), Err("neither a path from the root nor an abstract name".into()));
        assert_eq!(shown("a\nb"), "a b");
        assert_eq!(shown(&"é".repeat(400)).len(), LONGEST);
    }
}
