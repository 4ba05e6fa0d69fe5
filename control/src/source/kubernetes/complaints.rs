//! Problems of one sort, of which there may be very many: the first ones in words, the rest as a number.

use crate::problem::Problem;

/// So many are told in words.
const TOLD: usize = 20;

/// Problems of one sort.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    first: Vec<String>,
    /// Those beyond, and how many of them were told last: exact numbers would be news all the time.
    more: u64,
    told: u64,
}

impl Complaints {
    /// Adds one. Whether what is told changes by it.
    pub(super) fn add(&mut self, text: String) -> bool {
        if self.first.contains(&text) {
            return false;
        }
        if self.first.len() < TOLD {
            self.first.push(text);
            return true;
        }
        self.more += 1;
        let is_news = self.more >= self.told * 2;
        if is_news {
            self.told = self.more;
        }
        is_news
    }

    /// What is told.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let more = (self.told > 0).then(|| format!("and {} or more like these, which are only counted", self.told));
        self.first.iter().cloned().chain(more).map(Problem::of_source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_of_them_are_a_few_lines_and_little_news() {
        let mut complaints = Complaints::default();
        let news = (0..1_000_000).filter(|number| complaints.add(format!("the object {number} is refused"))).count();
        let told: Vec<String> = complaints.problems().map(|problem| problem.text).collect();
        assert!(news < 50, "{news}");
        assert_eq!((told.len(), &*told[0]), (TOLD + 1, "the object 0 is refused"));
        assert!(told[TOLD].starts_with("and 524288 or more like these"), "{}", told[TOLD]);
        assert!(!complaints.add("the object 3 is refused".to_owned()), "the same again");
    }
}
