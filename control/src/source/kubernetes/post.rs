//! News on their way from the followers to where they are gathered: bounded in number and in what they take.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::parse::{Document, Kind, ObjectKey};

/// What a follower brings.
pub(super) enum News {
    /// All objects of a kind.
    Listed(Kind, Vec<Document>),
    /// An object is new or has changed.
    Changed(Kind, Document),
    /// An object is gone.
    Deleted(ObjectKey),
    /// The kind is not to be had, and it can be done without. What was there of it stays.
    Unserved(Kind, String),
}

/// News, and the room that they take until they are dropped.
pub(super) struct Letter {
    pub(super) news: News,
    _room: OwnedSemaphorePermit,
}

/// The way there.
#[derive(Clone)]
pub(super) struct Post {
    letters: mpsc::Sender<Letter>,
    room: Arc<Semaphore>,
    most: u32,
}

/// Nobody waits for news any more.
pub(super) struct Abandoned;

impl Post {
    /// `most` KiB are under way at once; a single letter that is larger goes alone.
    pub(super) fn new(letters: mpsc::Sender<Letter>, most: u32) -> Self {
        Post { letters, room: Arc::new(Semaphore::new(most as usize)), most }
    }

    /// Sends as soon as there is room.
    pub(super) async fn send(&self, news: News) -> Result<(), Abandoned> {
        let bytes = match &news {
            News::Listed(_, objects) => objects.iter().map(Document::weight).sum(),
            News::Changed(_, document) => document.weight(),
            News::Deleted(_) | News::Unserved(..) => 0,
        };
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1).min(self.most);
        let room = self.room.clone().acquire_many_owned(kib).await.map_err(|_| Abandoned)?;
        self.letters.send(Letter { news, _room: room }).await.map_err(|_| Abandoned)
    }

    /// Waits until nobody waits for news any more.
    pub(super) async fn closed(&self) {
        self.letters.closed().await;
    }
}
