//! Identifiers, each a type of its own.

use std::{fmt, str::FromStr};

use thiserror::Error;
use uuid::Uuid;

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{text}` is not a {kind}: {reason}")]
pub struct IdError {
    /// What was wanted, e.g. `job id`.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new identifier that sorts by the time of its making (UUID version 7).
            #[expect(clippy::new_without_default, reason = "every call gives another value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The identifier's 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The identifier of these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|error| IdError { kind: $kind, text: text.to_owned(), reason: error.to_string() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid_id!(
    /// Names one job; results are keyed by it, so duplicates count once.
    JobId, "job id"
);
uuid_id!(
    /// Names one submission of a suite.
    RunId, "run id"
);

/// Where unique keys are names of jobs (RFC 9562, version 5); it must never change.
const JOB_KEYS: Uuid = Uuid::from_u128(0x1d0e_5f3b_4c4e_4c39_9a55_6f1d_7f4a_2b60);

impl JobId {
    /// Gives the identifier that follows from a unique key: the same key is the same job, everywhere and always.
    pub fn from_key(key: &str) -> Self {
        let mut digest = sha1_smol::Sha1::from(JOB_KEYS.as_bytes());
        digest.update(key.as_bytes());
        let [bytes @ .., _, _, _, _] = digest.digest().bytes();
        Self(uuid::Builder::from_sha1_bytes(bytes).into_uuid())
    }
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(String);

        impl $name {
            /// Longest name accepted, in bytes.
            pub const LENGTH_BYTES_MAX: usize = 128;

            /// Checks a name: 1 to 128 bytes of ASCII letters, digits, `.`, `_`, `-`, `:` and `@`.
            ///
            /// # Errors
            ///
            /// [`IdError`] if the name is empty, too long or has other characters.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let reason = if text.is_empty() {
                    "it is empty".to_owned()
                } else if text.len() > Self::LENGTH_BYTES_MAX {
                    format!("it is longer than {} bytes", Self::LENGTH_BYTES_MAX)
                } else if let Some(bad) =
                    text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-' | ':' | '@'))
                {
                    format!("`{bad}` is not allowed in it")
                } else {
                    return Ok(Self(text.to_owned()));
                };
                Err(IdError { kind: $kind, text: text.to_owned(), reason })
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name_id!(
    /// Names one worker process, e.g. `host:4711:0`.
    WorkerId, "worker id"
);
name_id!(
    /// Names one release of predictors, e.g. `r000003-1f2e3d4c`; later releases sort later.
    ReleaseId, "release id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_break_a_path_or_a_header() {
        for bad in ["", "a b", "a/b", "../up", "ä", &"x".repeat(129)] {
            assert!(WorkerId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(WorkerId::parse("host:12:0").expect("a plain name").as_str(), "host:12:0");
    }

    #[test]
    fn a_key_is_one_job_for_ever() {
        assert_eq!(JobId::from_key("nightly/resnet50").to_string(), "729150bc-3146-5d4f-a096-2397ffe54b0a");
        assert_ne!(JobId::from_key("nightly/resnet50"), JobId::from_key("nightly/resnet18"));
    }

    #[test]
    fn new_ids_sort_by_time() {
        let ids: Vec<_> = (0..100).map(|_| JobId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
