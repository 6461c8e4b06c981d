//! Why the store could not do something.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of the store; DuckDB's own is kept as the source.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error("database {} is held by {}", path.display(), holder.as_deref().unwrap_or("another process"))]
    Locked {
        /// The file.
        path: PathBuf,
        /// Program and process id, where DuckDB knows them, e.g. `/usr/bin/augur (PID 4711)`.
        holder: Option<String>,
    },
    /// The file is something else.
    #[error("{} is not a DuckDB database", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What DuckDB says.
        source: duckdb::Error,
    },
    /// A later Augur wrote this file.
    #[error("the database has schema version {found}, but this program knows only up to {known}")]
    NewerSchema {
        /// The file's latest migration.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file is no Augur database, but has a table of a name that Augur needs.
    #[error("the database has a table `{table}` that Augur did not make; rename it first")]
    TableInTheWay {
        /// Its name.
        table: String,
    },
    /// The file system refused: no such directory, no permission, disk full.
    #[error("failed to {attempted}: the file system refused")]
    Io {
        /// What was attempted.
        attempted: String,
        /// What DuckDB says.
        source: duckdb::Error,
    },
    /// The file system refused something with an archive.
    #[error("failed to {attempted} {}", path.display())]
    File {
        /// What was attempted, e.g. `rename`.
        attempted: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// DuckDB stopped serving this file after a fatal error; only opening it again helps.
    #[error("failed to {attempted}: the database must be opened again")]
    Invalidated {
        /// What was attempted.
        attempted: String,
        /// What DuckDB says.
        source: duckdb::Error,
    },
    /// A migration failed and was rolled back.
    #[error("migration {version} ({name}) failed and was rolled back")]
    Migration {
        /// Its number.
        version: u32,
        /// Its name.
        name: &'static str,
        /// Why.
        source: duckdb::Error,
    },
    /// Any other failure of a statement.
    #[error("failed to {attempted}")]
    Statement {
        /// What was attempted.
        attempted: String,
        /// What DuckDB says.
        source: duckdb::Error,
    },
    /// A stored value is not one that Augur writes.
    #[error("the database holds {what} `{found}`")]
    Unreadable {
        /// What it should be, e.g. `a precision`.
        what: &'static str,
        /// What it is.
        found: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody repairing anything but the disk.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } | Self::File { .. } | Self::Locked { .. } => true,
            Self::NotADatabase { .. }
            | Self::NewerSchema { .. }
            | Self::TableInTheWay { .. }
            | Self::Invalidated { .. }
            | Self::Migration { .. }
            | Self::Statement { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether records may be at fault that were to be stored: without some of them the same call may succeed.
    pub fn is_of_records(&self) -> bool {
        match self {
            // A value out of its column's range, a text that is no JSON, a broken constraint, and the like.
            Self::Statement { source, .. } => {
                let text = source.to_string();
                !NOT_OF_RECORDS.iter().any(|of_all| text.contains(of_all))
            }
            Self::Unreadable { .. } => true,
            Self::Io { .. }
            | Self::File { .. }
            | Self::Locked { .. }
            | Self::NotADatabase { .. }
            | Self::NewerSchema { .. }
            | Self::TableInTheWay { .. }
            | Self::Invalidated { .. }
            | Self::Migration { .. } => false,
        }
    }
}

/// DuckDB's words for failures of a statement by other causes: want of memory or disk, another transaction, a schema that
/// was tampered with.
const NOT_OF_RECORDS: &[&str] = &[
    "Out of Memory Error",
    "IO Error",
    "TransactionContext Error",
    "INTERRUPT Error",
    "Catalog Error",
    "Binder Error",
    // An appender's word for a table that is not there.
    "could not be found",
];

/// Turns DuckDB's error into ours; `attempted` completes "failed to …".
pub(crate) fn failed(attempted: impl Into<String>) -> impl FnOnce(duckdb::Error) -> StoreError {
    move |source| {
        let attempted = attempted.into();
        // DuckDB's C interface gives one code for everything: only the text tells the kinds apart.
        let text = source.to_string();
        if text.contains("database has been invalidated") || text.starts_with("FATAL Error") {
            StoreError::Invalidated { attempted, source }
        } else if text.starts_with("IO Error") {
            StoreError::Io { attempted, source }
        } else {
            StoreError::Statement { attempted, source }
        }
    }
}

/// Turns the error of opening `path` into ours.
pub(crate) fn open_failed(path: &Path) -> impl FnOnce(duckdb::Error) -> StoreError {
    move |source| {
        let text = source.to_string();
        let path = path.to_owned();
        if text.contains("Could not set lock on file") {
            return StoreError::Locked { path, holder: lock_holder(&text) };
        }
        if text.contains("not a valid DuckDB database file") || text.contains("with version number") {
            return StoreError::NotADatabase { path, source };
        }
        failed(format!("open database {}", path.display()))(source)
    }
}

/// The program and its process id in DuckDB's message, e.g. `/usr/bin/augur (PID 4711)`.
fn lock_holder(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("Conflicting lock is held in ")?;
    let end = rest.find(')')?;
    Some(rest[..=end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let text = "IO Error: Could not set lock on file \"/d/a.duckdb\": Conflicting lock is held in \
                    /usr/bin/augur (PID 4711) by user root. See also https://duckdb.org/docs/";
        assert_eq!(lock_holder(text).as_deref(), Some("/usr/bin/augur (PID 4711)"));
        assert_eq!(lock_holder("IO Error: Could not set lock on file"), None);
    }

    #[test]
    fn only_what_is_wrong_with_values_is_the_fault_of_records() {
        let is_of_records = |text: &str| {
            let source = duckdb::Error::DuckDBFailure(duckdb::ffi::Error::new(1), Some(text.to_owned()));
            failed("store")(source).is_of_records()
        };
        assert!(is_of_records("Conversion Error: Type UINT32 with value 4294967295 can't be cast to INT32"));
        assert!(is_of_records("Constraint Error: NOT NULL constraint failed: jobs.case_name"));
        for other in [
            "IO Error: Could not write file: No space left on device",
            "Out of Memory Error: could not allocate block of size 256.0 KiB",
            "TransactionContext Error: Conflict on update!",
            "Catalog Error: Table with name outbox does not exist!",
            "FATAL Error: Failed: database has been invalidated",
        ] {
            assert!(!is_of_records(other), "{other}");
        }
    }
}
