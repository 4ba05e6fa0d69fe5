//! What is said about the parts of one object that do not count.

/// Notes about the parts of one object. What is wrong with very many of them is told of the first ones, and counted.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    first: Vec<String>,
    more: usize,
}

impl Notes {
    const MOST: usize = 16;

    pub(super) fn push(&mut self, note: String) {
        if self.first.len() < Self::MOST { self.first.push(note) } else { self.more += 1 }
    }

    pub(super) fn clear(&mut self) {
        *self = Notes::default();
    }

    pub(super) fn told(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more like these", self.more));
        }
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_are_counted() {
        let mut notes = Notes::default();
        (0..1_000_000).for_each(|number| notes.push(number.to_string()));
        let told = notes.told();
        assert_eq!(told.len(), Notes::MOST + 1);
        assert_eq!(told.last().unwrap(), "and 999984 more like these");
    }
}
