//! Where objects come from, and how that goes: the part `source` of `status`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::problem::{Problem, Severity};

/// Where objects come from, and how that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// Files and folders.
    pub files: Vec<String>,
    /// The Kubernetes API, if objects come from there.
    pub kubernetes: Option<KubernetesReport>,
    /// Seconds since all files were looked at, or since the API server was last heard of.
    #[serde(default)]
    pub age_seconds: Option<u64>,
    /// Services that were read.
    pub services: usize,
    /// What is wrong with objects and files: the first 1,000.
    pub problems: Vec<ProblemReport>,
    /// How many there are in all, by severity.
    #[serde(default)]
    pub problem_counts: ProblemCounts,
}

/// So many problems are told one by one.
const TOLD: usize = 1_000;

impl SourceReport {
    /// Adds what is wrong. Notes are not.
    pub fn with_problems<'p>(self, problems: impl Iterator<Item = &'p Problem>) -> Self {
        let (mut told, mut counts) = (Vec::new(), ProblemCounts::default());
        for problem in problems {
            match problem.severity {
                Severity::Note => continue,
                Severity::Warning => counts.warning += 1,
                Severity::Refused => counts.refused += 1,
            }
            if told.len() < TOLD {
                told.push(problem.into());
            }
        }
        SourceReport { problems: told, problem_counts: counts, ..self }
    }

    /// How many problems there are beyond those that are listed.
    pub fn problems_beyond(&self) -> usize {
        let ProblemCounts { warning, refused } = self.problem_counts;
        (warning + refused).saturating_sub(self.problems.len())
    }
}

/// How many problems there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemCounts {
    /// A part does not count.
    pub warning: usize,
    /// An object or a file does not count.
    pub refused: usize,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemReport {
    /// `note`, `warning` or `refused`.
    pub severity: String,
    /// The whole sentence, with the file and the object.
    pub text: String,
}

impl From<&Problem> for ProblemReport {
    fn from(problem: &Problem) -> Self {
        ProblemReport { severity: problem.severity.label().to_owned(), text: problem.to_string() }
    }
}

/// For a person. The text says of itself when something is refused.
impl fmt::Display for ProblemReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity != Severity::Refused.label() {
            write!(f, "{}: ", self.severity)?;
        }
        f.write_str(&self.text)
    }
}

/// The Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesReport {
    /// The API server's address.
    pub server: String,
    /// Whether the first full list of all kinds has arrived.
    pub complete: bool,
    /// Seconds since the API server was last heard of, by the kind that has waited longest. A quiet one says something
    /// about once a minute.
    pub age_seconds: Option<u64>,
    /// Kind by kind.
    pub resources: Vec<ResourceReport>,
}

/// One kind of objects, which is listed and watched on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceReport {
    /// `Service`, `EndpointSlice`, `Node` or `ServiceCIDR`.
    pub kind: String,
    /// Whether a full list has arrived.
    pub listed: bool,
    /// Why it is done without, where it can be.
    pub unserved: Option<String>,
    /// Seconds since the API server was last heard of about it.
    pub age_seconds: Option<u64>,
    /// Full lists that have arrived.
    pub lists: u64,
    /// Changes that have arrived.
    pub events: u64,
    /// Objects and changes of objects that were refused.
    pub refused: u64,
    /// What is wrong at the moment.
    pub problem: Option<String>,
    /// For how many seconds.
    pub problem_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_problems_are_counted() {
        let problem = |number| Problem::of_file(Severity::Warning, "a.yaml", format!("{number}"));
        let mut problems: Vec<Problem> = (0..1_500).map(problem).collect();
        problems.push(Problem::of_file(Severity::Note, "a.yaml", "a note"));
        let report = SourceReport::default().with_problems(problems.iter());
        assert_eq!((report.problems.len(), report.problems_beyond()), (1_000, 500));
        let report = SourceReport::default().with_problems(problems[..2].iter());
        assert_eq!((report.problems.len(), report.problems_beyond()), (2, 0));
    }
}
