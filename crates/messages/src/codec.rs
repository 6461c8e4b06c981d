//! Bytes in and out: one envelope, one size limit, one error type.

use thiserror::Error;

use crate::wire;

/// Largest message body, in bytes (1 MiB).
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A message ready to publish: its AMQP `type`, its `schema-version` header and its MessagePack body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// AMQP property `type`.
    pub message_type: &'static str,
    /// Header `schema-version`, read before the body.
    pub schema_version: u16,
    /// MessagePack map, never empty, at most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// A domain type that travels.
pub trait Message: Sized {
    /// AMQP `type` of this message.
    const TYPE: &'static str;
    /// The newest schema version that is read and written.
    const SCHEMA_VERSION: u16;

    /// The schema version that this message is written in: the oldest that can say it, so that readers from before
    /// a version refuse only what they would misunderstand.
    fn schema_version(&self) -> u16;

    /// Serialises in [`Self::schema_version`].
    ///
    /// # Errors
    ///
    /// Whatever MessagePack says; it cannot fail for the types here but for want of memory.
    fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error>;

    /// Deserialises the given schema version.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for an unknown version, malformed bytes or values outside their limits.
    fn from_bytes(schema_version: u16, body: &[u8]) -> Result<Self, DecodeError>;
}

/// A message that cannot be sent.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// It would be refused on arrival.
    #[error("{message_type} message is {found_bytes} bytes long; the limit is {limit_bytes}")]
    TooLarge {
        /// AMQP `type`.
        message_type: &'static str,
        /// Its size.
        found_bytes: usize,
        /// [`BODY_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// MessagePack failed.
    #[error("failed to encode {message_type} message")]
    Serialize {
        /// AMQP `type`.
        message_type: &'static str,
        /// What MessagePack says.
        source: rmp_serde::encode::Error,
    },
}

/// Every way that bytes can be wrong.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Larger than any message of ours.
    #[error("message body is {found_bytes} bytes long; the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
        /// [`BODY_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// No bytes at all.
    #[error("message body is empty")]
    Empty,
    /// The AMQP property `type` is absent.
    #[error("message has no `type` property; `{expected}` was expected")]
    MissingType {
        /// The type that the reader wants.
        expected: &'static str,
    },
    /// Another kind of message.
    #[error("message is of type `{found}`; `{expected}` was expected")]
    WrongType {
        /// The type that the reader wants.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// The header is absent or no small integer.
    #[error("{message_type} message has no usable `schema-version` header")]
    MissingSchemaVersion {
        /// AMQP `type`.
        message_type: &'static str,
    },
    /// Written by a newer Augur, or not by Augur.
    #[error("{message_type} message has schema version {found}; this build reads up to {newest_known}")]
    UnknownSchemaVersion {
        /// AMQP `type`.
        message_type: &'static str,
        /// The version found.
        found: u16,
        /// The newest version that this build reads.
        newest_known: u16,
    },
    /// No MessagePack map of that schema.
    #[error("failed to decode {message_type} message of schema version {schema_version}")]
    Malformed {
        /// AMQP `type`.
        message_type: &'static str,
        /// The version that the header says.
        schema_version: u16,
        /// What MessagePack says.
        source: rmp_serde::decode::Error,
    },
    /// A whole message, and more behind it.
    #[error("{message_type} message has {surplus_bytes} bytes too many")]
    TrailingBytes {
        /// AMQP `type`.
        message_type: &'static str,
        /// How many.
        surplus_bytes: usize,
    },
    /// Well-formed, but a value is not possible.
    #[error("{message_type} message: {field} is not possible: {reason}")]
    Invalid {
        /// AMQP `type`.
        message_type: &'static str,
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Encodes a message in the oldest schema that can say it.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] past 1 MiB.
pub fn encode<M: Message>(message: &M) -> Result<Encoded, EncodeError> {
    let body = message.to_bytes().map_err(|source| EncodeError::Serialize { message_type: M::TYPE, source })?;
    if body.len() > BODY_BYTES_MAX {
        return Err(EncodeError::TooLarge {
            message_type: M::TYPE,
            found_bytes: body.len(),
            limit_bytes: BODY_BYTES_MAX,
        });
    }
    Ok(Encoded { message_type: M::TYPE, schema_version: message.schema_version(), body })
}

/// Decodes a message from its AMQP `type`, its `schema-version` header and its body.
///
/// # Errors
///
/// [`DecodeError`] says which of them is wrong, and how; it never panics, whatever the bytes.
pub fn decode<M: Message>(
    message_type: Option<&str>,
    schema_version: Option<u16>,
    body: &[u8],
) -> Result<M, DecodeError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(DecodeError::TooLarge { found_bytes: body.len(), limit_bytes: BODY_BYTES_MAX });
    }
    match message_type {
        None => return Err(DecodeError::MissingType { expected: M::TYPE }),
        Some(found) if found != M::TYPE => {
            return Err(DecodeError::WrongType { expected: M::TYPE, found: found.to_owned() });
        }
        Some(_) => {}
    }
    let schema_version = schema_version.ok_or(DecodeError::MissingSchemaVersion { message_type: M::TYPE })?;
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    M::from_bytes(schema_version, body)
}

/// Reads one schema version of one message: the shared part of every [`Message::from_bytes`].
pub(crate) fn read<M, W>(schema_version: u16, body: &[u8]) -> Result<M, DecodeError>
where
    M: Message,
    W: serde::de::DeserializeOwned,
    M: TryFrom<W, Error = wire::Invalid>,
{
    let mut rest = body;
    let on_wire: W = rmp_serde::decode::from_read(&mut rest).map_err(|source| DecodeError::Malformed {
        message_type: M::TYPE,
        schema_version,
        source,
    })?;
    if !rest.is_empty() {
        return Err(DecodeError::TrailingBytes { message_type: M::TYPE, surplus_bytes: rest.len() });
    }
    M::try_from(on_wire).map_err(|wire::Invalid { field, reason }| DecodeError::Invalid {
        message_type: M::TYPE,
        field,
        reason,
    })
}
