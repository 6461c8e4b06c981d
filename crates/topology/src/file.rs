//! The shape of `queues.yaml`, version 1, before anything is expanded.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use serde_saphyr::Spanned;

use crate::{ExchangeKind, QueueKind, TopologyError};

/// The version of the file's shape.
const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct File {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    pub(crate) sets: BTreeMap<String, Spanned<Vec<String>>>,
    pub(crate) exchanges: Vec<ExchangeEntry>,
    pub(crate) queues: Vec<QueueEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ExchangeEntry {
    pub(crate) name: Spanned<String>,
    pub(crate) kind: ExchangeKind,
    pub(crate) alternate_exchange: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct QueueEntry {
    pub(crate) name: Spanned<String>,
    pub(crate) kind: QueueKind,
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Spanned<Scalar>>,
    pub(crate) bindings: Vec<BindingEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BindingEntry {
    pub(crate) exchange: Spanned<String>,
    pub(crate) routing_key: Spanned<String>,
}

/// An argument's value as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar {
    Int(i64),
    Bool(bool),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, a text, true or false")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        i64::try_from(value).map(Scalar::Int).map_err(|_| E::custom(format!("{value} is too large an integer")))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }
}

/// Reads the text; its version first, so that a newer file is called newer and not misspelt.
pub(crate) fn read(text: &str) -> Result<File, TopologyError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }

    let Versioned { version } = serde_saphyr::from_str(text).map_err(located)?;
    if version != VERSION {
        return Err(TopologyError::Version { found: version, expected: VERSION });
    }
    serde_saphyr::from_str(text).map_err(located)
}

fn located(error: serde_saphyr::Error) -> TopologyError {
    let (line, column) = error.location().map_or((0, 0), |location| (location.line(), location.column()));
    TopologyError::Yaml { line, column, source: Box::new(error) }
}
