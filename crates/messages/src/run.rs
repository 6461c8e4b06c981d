//! One submission of a suite.

use std::{fmt, str::FromStr};

use crate::{JobId, Need, RunId, Timestamp, UnknownWord};

/// Who asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A person or a script, through the client.
    Client,
    /// The active learner.
    Learner,
}

impl Origin {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Learner => "learner",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Origin {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "client" => Ok(Self::Client),
            "learner" => Ok(Self::Learner),
            _ => Err(UnknownWord { kind: "origin", found: text.to_owned(), known: "client, learner".to_owned() }),
        }
    }
}

/// Says, on the result stream and before its jobs, that a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSubmitted {
    /// The run.
    pub run_id: RunId,
    /// Name of the suite.
    pub suite: String,
    /// Who asked for it.
    pub origin: Origin,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Jobs in it.
    pub jobs_total: u32,
    /// The job, if it is the only one: who takes that back takes the run back.
    pub only_job: Option<JobId>,
    /// What its jobs ask of workers, each need once.
    pub needs: Vec<Need>,
    /// What its jobs measure, each configuration once, by its text; the first [`Self::CONFIGURATIONS_MAX`] of them.
    pub configurations: Vec<String>,
    /// Not to be started before this moment.
    pub due_at: Option<Timestamp>,
    /// Commit of the work tree that it was submitted from.
    pub git_commit: Option<String>,
    /// Branch of that work tree.
    pub git_branch: Option<String>,
    /// The command that submitted it, without secrets.
    pub command_line: Option<String>,
}

impl RunSubmitted {
    /// Most configurations that a run tells of, so that the message stays small.
    pub const CONFIGURATIONS_MAX: usize = 2_000;
}
