//! What is measured: a model on a platform with its settings.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{Backend, IdError, Platform, Precision, web::browser_name};

/// Bounds of a configuration; anything outside is refused before it reaches a queue.
pub mod limits {
    /// Largest batch, in items.
    pub const BATCH_SIZE_MAX: u32 = 65_536;
    /// Longest sequence, in tokens (or audio frames).
    pub const SEQUENCE_LENGTH_MAX: u32 = 1_048_576;
    /// Largest image edge, in pixels.
    pub const IMAGE_SIZE_MAX: u32 = 16_384;
    /// Most threads that one session may use.
    pub const THREADS_MAX: u32 = 1_024;
    /// Longest model name, in bytes.
    pub const MODEL_NAME_BYTES_MAX: usize = 200;
    /// Longest name of a browser, in bytes.
    pub const BROWSER_BYTES_MAX: usize = 64;
}

/// SHA-256 of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl FromStr for ContentHash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |reason: &str| IdError { kind: "sha256", text: text.to_owned(), reason: reason.to_owned() };
        if text.len() != 64 || !text.is_ascii() {
            return Err(fail("it must be 64 hexadecimal digits"));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| fail("it is not ASCII"))?;
            *byte =
                u8::from_str_radix(pair, 16).map_err(|_| fail("it has a character that is no hexadecimal digit"))?;
        }
        Ok(Self(bytes))
    }
}

/// A model by name and content: a job carries this, never weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelRef {
    /// Name in the zoo or the registry, e.g. `bert-base-uncased`.
    pub name: String,
    /// SHA-256 of the ONNX file.
    pub sha256: ContentHash,
}

/// Everything that decides how fast a model runs, but for the device itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Configuration {
    /// The model.
    pub model: ModelRef,
    /// The kind of execution target.
    pub platform: Platform,
    /// The runtime.
    pub backend: Backend,
    /// Number format.
    pub precision: Precision,
    /// Items per batch, at least 1.
    pub batch_size: u32,
    /// Tokens (or audio frames) per item, for models whose input has such a dimension.
    pub sequence_length: Option<u32>,
    /// Pixels per image edge, for models whose input has such a dimension.
    pub image_size: Option<u32>,
    /// Threads of the session, at least 1.
    pub threads: u32,
    /// The browser, by the name under which its worker knows it; `None` outside browsers, or where any will do.
    pub browser: Option<String>,
}

/// A configuration that no worker could run.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{field} is {found}; {expected}")]
pub struct ConfigurationError {
    /// The field at fault, e.g. `batch_size`.
    pub field: &'static str,
    /// What it holds.
    pub found: String,
    /// What it may hold.
    pub expected: String,
}

impl Configuration {
    /// Checks every number against its limit.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`] names the first field outside its limits.
    pub fn validate(&self) -> Result<(), ConfigurationError> {
        let between = |field, found: u32, max: u32| {
            if (1..=max).contains(&found) {
                Ok(())
            } else {
                Err(ConfigurationError { field, found: found.to_string(), expected: format!("1 to {max} is possible") })
            }
        };
        if self.model.name.is_empty() || self.model.name.len() > limits::MODEL_NAME_BYTES_MAX {
            return Err(ConfigurationError {
                field: "model",
                found: format!("{} bytes long", self.model.name.len()),
                expected: format!("1 to {} bytes are possible", limits::MODEL_NAME_BYTES_MAX),
            });
        }
        between("batch_size", self.batch_size, limits::BATCH_SIZE_MAX)?;
        between("threads", self.threads, limits::THREADS_MAX)?;
        self.sequence_length.map_or(Ok(()), |found| between("sequence_length", found, limits::SEQUENCE_LENGTH_MAX))?;
        self.image_size.map_or(Ok(()), |found| between("image_size", found, limits::IMAGE_SIZE_MAX))?;
        self.browser.as_deref().map_or(Ok(()), browser_name)
    }
}

impl fmt::Display for Configuration {
    /// One line for people, e.g. `resnet50 cpu fp32 batch 4 image 224 threads 2`; a browser's name comes last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} batch {}", self.model.name, self.platform, self.precision, self.batch_size)?;
        if let Some(length) = self.sequence_length {
            write!(f, " sequence {length}")?;
        }
        if let Some(size) = self.image_size {
            write!(f, " image {size}")?;
        }
        write!(f, " threads {}", self.threads)?;
        self.browser.as_ref().map_or(Ok(()), |browser| write!(f, " {browser}"))
    }
}
