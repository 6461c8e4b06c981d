//! Model names, and the records that say which content a name means.

use std::{fmt, str::FromStr};

use messages::{ContentHash, Precision, limits};

use crate::error::GraphError;

/// Most names that an error suggests.
const NEAREST_MAX: usize = 3;

/// Checks that `name` can name a model and a file: ASCII letters, digits, `.`, `_`, `-`, and `/` between parts.
pub(super) fn check_name(name: &str) -> Result<(), GraphError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let reason = if name.is_empty() || name.len() > limits::MODEL_NAME_BYTES_MAX {
        "it must have 1 to 200 bytes"
    } else if !name.chars().all(is_plain) {
        "only ASCII letters, digits and `.`, `_`, `-`, `/` are allowed"
    } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        "a part of it is empty or starts with a dot"
    } else {
        return Ok(());
    };
    Err(GraphError::BadName { name: name.to_owned(), reason })
}

/// The record's file name: `%` and `@` are in no name, so this is unique.
///
/// A registered model and a zoo model in fp32 have the plain name, other precisions are written behind an `@`.
pub(super) fn record_file(name: &str, precision: Option<Precision>) -> String {
    let plain = name.replace('/', "%2F");
    match precision {
        None | Some(Precision::Fp32) => plain,
        Some(other) => format!("{plain}@{other}"),
    }
}

/// The model name and the precision, unless it is the plain one, that a record's file is for.
pub(super) fn name_of_file(file: &str) -> Option<(String, Option<Precision>)> {
    let (plain, precision) = match file.split_once('@') {
        Some((plain, precision)) => (plain, Some(precision.parse().ok()?)),
        None => (file, None),
    };
    let name = plain.replace("%2F", "/");
    check_name(&name).is_ok().then_some((name, precision))
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sha256: ContentHash,
    pub(super) owner: Owner,
}

/// Where a file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Built by this version of the builders.
    Zoo(u32),
    Registered,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner {
            Owner::Zoo(version) => writeln!(f, "{} zoo {version}", self.sha256),
            Owner::Registered => writeln!(f, "{} registered", self.sha256),
        }
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let (sha256, owner) = match words.as_slice() {
            [sha256, "registered"] => (sha256, Owner::Registered),
            [sha256, "zoo", version] => (sha256, Owner::Zoo(version.parse().map_err(|_| "no builder version")?)),
            _ => return Err("it is neither `<sha256> registered` nor `<sha256> zoo <version>`".to_owned()),
        };
        let sha256 = sha256.parse().map_err(|error: messages::IdError| error.to_string())?;
        Ok(Self { sha256, owner })
    }
}

/// The known names most like `name`, nearest first; none if nothing is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut ranked: Vec<(usize, &str)> = known
        .map(|other| {
            let distance = if other.contains(name) || name.contains(other) { 0 } else { edit_distance(name, other) };
            (distance, other)
        })
        .filter(|(distance, other)| *distance <= other.len().max(name.len()) / 2)
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(NEAREST_MAX).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein's distance in bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != b)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}
