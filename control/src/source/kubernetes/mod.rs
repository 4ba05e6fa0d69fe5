//! Objects from the Kubernetes API: one follower for each kind lists and watches, and what they bring is gathered into one
//! cluster state.
//!
//! Each kind goes its own way: list in pages, then watch from where the list ended. A watch that ends is taken up again
//! where it stopped; only when the API server no longer knows that place, or sends what cannot be read, all is listed anew.
//! A list counts when it is complete: until then, and whatever fails, the objects stay as they were.
//!
//! The client is kube's; the state machine is not its `watcher`. That one keeps bookmarks to itself, so nobody could tell
//! how old the picture is; takes up watches that end at once without a pause; steps over lines it cannot read; and never
//! lists anew when a watch is refused as expired by its HTTP status.

mod backoff;
mod complaints;
mod connect;
mod fault;
mod follow;
mod gather;
mod limits;
mod object;
mod page;
mod post;
mod read;
mod token;

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use connect::{ConnectError, Connection};
pub use limits::Limits;
pub use object::decode;

use super::Objects;
use super::health::SourceHealth;
use crate::cluster::ClusterState;
use crate::parse::Kind;
use crate::watch::heart;
use follow::Follower;
use gather::Gather;
use post::Post;

/// How long things may take, and how long they are left alone.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For an answer to begin, for each further piece of a list, and for the rest of a line that has begun.
    pub answer: Duration,
    /// For a whole list.
    pub list: Duration,
    /// For the next line of a watch. Most quiet API servers send a bookmark about once a minute.
    pub quiet: Duration,
    /// Before the second attempt; doubled for each further one.
    pub first_pause: Duration,
    /// The most of it. Every pause is varied by half, so that not all nodes come at once.
    pub longest_pause: Duration,
    /// The same for a kind that can be done without, when it is not to be had.
    pub longest_pause_unserved: Duration,
    /// Objects in one page of a list.
    pub page: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            answer: Duration::from_secs(60),
            list: Duration::from_secs(600),
            quiet: Duration::from_secs(100),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
            longest_pause_unserved: Duration::from_secs(300),
            page: 500,
        }
    }
}

/// The kinds that are followed.
const KINDS: [Kind; 4] = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];

/// News on their way to be gathered. Followers wait when there are more.
const NEWS: usize = 1024;

/// Objects on their way to be gathered, in KiB. Followers wait when there are more; the largest object always fits.
const UNDER_WAY: u32 = 64 << 10;

/// After so many turns of any follower time limits are looked at: a turn may be long when very much comes in.
const TURNS: u32 = 4;

/// Follows the objects, and of the Nodes the one called `node`, until the last receiver is gone. The first value that is
/// sent is the first full list of all kinds.
///
/// All of it happens in a thread of its own: whatever an API server sends, and however much of it, costs nobody else time.
pub fn watch(connection: Connection, node: &str, patience: Patience, limits: Limits) -> io::Result<Objects> {
    let health = SourceHealth::of_server(&connection.server, &KINDS);
    let (publish, cluster) = watch::channel(Arc::new(ClusterState::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(TURNS).build()?;
    let (node, told) = (node.to_owned(), health.clone());
    thread::Builder::new().name("ringway-objects".into()).spawn(move || {
        runtime.block_on(async move {
            let (news, arriving) = mpsc::channel(NEWS);
            let post = Post::new(news, UNDER_WAY);
            let mut followers = JoinSet::new();
            for kind in KINDS {
                let follower = Follower::new(&connection, kind, &node, (patience, limits), told.clone(), post.clone());
                let heart = heart(format!("{} objects", kind.label()));
                // Everything that it waits for has a time limit of its own.
                followers.spawn(async move { heart.waiting(follower.run()).await });
            }
            drop(post);
            Gather::new(told, publish, limits).run(arriving).await;
        });
    })?;
    Ok(Objects { cluster, health })
}
