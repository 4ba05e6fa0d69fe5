//! One scrape for all who ask within a second: it looks at every endpoint, and the door to it is open to anybody.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a scrape is good.
const GOOD: Duration = Duration::from_secs(1);

/// The last scrape.
#[derive(Default)]
pub struct SharedScrape(Mutex<Option<(Instant, String)>>);

impl SharedScrape {
    /// The last one if it is good for who asked at `now`, else what `make` makes. Who asks meanwhile waits for it.
    pub fn get<E>(&self, now: Instant, make: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*last
            && now.saturating_duration_since(*made) < GOOD
        {
            return Ok(text.clone());
        }
        let text = make()?;
        *last = Some((now, text.clone()));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_made_once_a_second() {
        let scrape = SharedScrape::default();
        let start = Instant::now() + 10 * GOOD;
        let at = |millis: u64, text: &str| {
            scrape.get(start + Duration::from_millis(millis), || text.parse::<String>()).expect("never wrong")
        };
        assert_eq!(
            [at(0, "a"), at(1, "b"), at(999, "c"), at(1000, "d"), at(1500, "e"), at(2000, "f")],
            ["a", "a", "a", "d", "d", "f"]
        );
        // Who asked before it was made, and had to wait.
        assert_eq!(at(1900, "g"), "f");
        // What could not be made is not remembered.
        assert_eq!(scrape.get(start + 5 * GOOD, || Err(7)), Err(7));
        assert_eq!(at(5001, "h"), "h");
    }
}
