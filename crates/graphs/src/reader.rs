//! Reads an ONNX file without its weights.
//!
//! Model files are hundreds of megabytes of weights around some kilobytes of structure. This walks the protobuf
//! wire format, skips the bytes of large tensors where they lie, and decodes what is left.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use prost::Message;

use crate::{error::GraphError, proto::ModelProto};

/// Largest tensor content that is kept, in bytes: enough for every constant that shapes depend on.
const KEPT_BYTES_MAX: u64 = 64 * 1024;

/// Largest file, in bytes: protobuf's own limit for a message.
const FILE_BYTES_MAX: u64 = 1 << 31;

/// Where in the file the walk is; only what leads to an initializer's bytes matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Model,
    Graph,
    Tensor,
}

impl Level {
    /// The message behind field `number`, if the walk goes into it.
    fn inner(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) => Some(Self::Graph),
            (Self::Graph, 5) => Some(Self::Tensor),
            _ => None,
        }
    }

    /// Whether field `number` holds a tensor's content.
    fn is_content(self, number: u64) -> bool {
        self == Self::Tensor && matches!(number, 4 | 5 | 6 | 7 | 9 | 10 | 11)
    }
}

/// Why the bytes could not be walked.
enum WalkError {
    Read(io::Error),
    Wire(String),
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads the model at `path`; tensors above [`KEPT_BYTES_MAX`] come back with dimensions and without content.
///
/// # Errors
///
/// [`GraphError::NotOnnx`] for bytes that are no ONNX model, [`GraphError::Io`] if the file cannot be read.
pub(crate) fn read_model(path: &Path) -> Result<ModelProto, GraphError> {
    let not_onnx = |reason: String| GraphError::NotOnnx { path: path.to_owned(), reason };
    let file = File::open(path).map_err(GraphError::io("open", path))?;
    let length = file.metadata().map_err(GraphError::io("read", path))?.len();
    if length == 0 {
        return Err(not_onnx("the file is empty".to_owned()));
    }
    if length > FILE_BYTES_MAX {
        return Err(not_onnx(format!("it is {length} bytes long; at most {FILE_BYTES_MAX} are possible")));
    }
    let mut walk = Walk { source: BufReader::with_capacity(1 << 16, file), position: 0 };
    let kept = walk.strip(length, Level::Model).map_err(|error| match error {
        WalkError::Read(source) => GraphError::Io { action: "read", path: path.to_owned(), source },
        WalkError::Wire(reason) => not_onnx(reason),
    })?;
    ModelProto::decode(kept.as_slice()).map_err(|error| not_onnx(error.to_string()))
}

struct Walk<R> {
    source: R,
    position: u64,
}

impl<R: Read + Seek> Walk<BufReader<R>> {
    /// Copies the message that ends at `end`, large tensor contents left out.
    fn strip(&mut self, end: u64, level: Level) -> Result<Vec<u8>, WalkError> {
        let mut kept = Vec::new();
        while self.position < end {
            let key = self.varint(end)?;
            match key & 7 {
                0 => {
                    let value = self.varint(end)?;
                    put_varint(&mut kept, key);
                    put_varint(&mut kept, value);
                }
                1 => self.copy(key, 8, end, &mut kept)?,
                5 => self.copy(key, 4, end, &mut kept)?,
                2 => {
                    let length = self.varint(end)?;
                    self.within(length, end)?;
                    if let Some(inner) = level.inner(key >> 3) {
                        let message = self.strip(self.position + length, inner)?;
                        put_varint(&mut kept, key);
                        put_varint(&mut kept, message.len() as u64);
                        kept.extend(message);
                    } else if level.is_content(key >> 3) && length > KEPT_BYTES_MAX {
                        self.skip(length)?;
                    } else {
                        put_varint(&mut kept, key);
                        put_varint(&mut kept, length);
                        self.append(length, &mut kept)?;
                    }
                }
                other => return Err(WalkError::Wire(format!("wire type {other} at byte {}", self.position))),
            }
        }
        Ok(kept)
    }

    fn copy(&mut self, key: u64, length: u64, end: u64, kept: &mut Vec<u8>) -> Result<(), WalkError> {
        self.within(length, end)?;
        put_varint(kept, key);
        self.append(length, kept)
    }

    /// Checks that `length` more bytes lie before `end`.
    fn within(&self, length: u64, end: u64) -> Result<(), WalkError> {
        if length > end - self.position {
            return Err(WalkError::Wire(format!(
                "a field at byte {} claims {length} bytes where {} are left",
                self.position,
                end - self.position
            )));
        }
        Ok(())
    }

    fn append(&mut self, length: u64, kept: &mut Vec<u8>) -> Result<(), WalkError> {
        let read = self.source.by_ref().take(length).read_to_end(kept)? as u64;
        self.position += read;
        if read == length { Ok(()) } else { Err(WalkError::Wire(format!("it ends at byte {}", self.position))) }
    }

    fn skip(&mut self, length: u64) -> Result<(), WalkError> {
        let offset = i64::try_from(length).map_err(|_| WalkError::Wire("a field is too long".to_owned()))?;
        self.source.seek_relative(offset)?;
        self.position += length;
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, WalkError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            self.within(1, end)?;
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WalkError::Wire(format!("a number before byte {} is too long", self.position)))
    }
}

/// Appends `value` in protobuf's variable-length form.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, bytes);
}
