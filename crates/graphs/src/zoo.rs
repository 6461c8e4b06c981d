//! The model zoo: published architectures, built here with seeded random weights.
//!
//! Each module below states one family's dimensions; parameter counts are held against the published ones by tests.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use messages::ContentHash;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::{builder::Architecture, cache::nearest, error::GraphError};

mod bert;
mod gpt2;
mod mobilenet;
mod resnet;
mod vit;
mod whisper;

/// Version of the builders; a change of any file's bytes raises it, so that caches build anew.
pub(crate) const BUILDER_VERSION: u32 = 1;

/// Bytes gathered before they are hashed and written.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// One model of the zoo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZooEntry {
    /// Its name, e.g. `bert-base-uncased`.
    pub name: &'static str,
    /// Its family, e.g. `bert`.
    pub family: &'static str,
    /// `text`, `vision` or `audio`.
    pub modality: &'static str,
    /// Parameters as published.
    pub published_parameters: u64,
    /// Where that figure is published.
    pub source: &'static str,
    /// Which dimension of its input may vary, and its usual value.
    pub shape: ShapeInput,
}

/// The dimension of a model's input beside the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeInput {
    /// Tokens.
    Sequence {
        /// Usual length.
        default: u32,
        /// Longest length.
        max: u32,
    },
    /// Square images, edge in pixels.
    Image {
        /// Usual edge.
        default: u32,
        /// Whether other edges are possible.
        resizable: bool,
    },
    /// Mel frames; always this many.
    AudioFrames {
        /// The number of frames.
        default: u32,
    },
}

static ZOO: &[ZooEntry] = &[
    ZooEntry {
        name: "bert-base-uncased",
        family: "bert",
        modality: "text",
        // `BertModel` with pooler, without the heads for pre-training; the paper's Table 1 rounds it to 110 M.
        published_parameters: 109_482_240,
        source: "Devlin et al. 2018 (arXiv:1810.04805): 110 M; transformers BertModel.num_parameters(): 109,482,240",
        shape: ShapeInput::Sequence { default: 128, max: 512 },
    },
    ZooEntry {
        name: "distilbert-base",
        family: "bert",
        modality: "text",
        published_parameters: 66_362_880,
        source: "Sanh et al. 2019 (arXiv:1910.01108): 66 M; transformers DistilBertModel.num_parameters(): 66,362,880",
        shape: ShapeInput::Sequence { default: 128, max: 512 },
    },
    ZooEntry {
        name: "gpt2",
        family: "gpt",
        modality: "text",
        // The paper's own table says 117 M; its repository corrects that to 124 M.
        published_parameters: 124_439_808,
        source: "github.com/openai/gpt-2: 124M; transformers GPT2LMHeadModel.num_parameters(): 124,439,808",
        shape: ShapeInput::Sequence { default: 128, max: 1024 },
    },
    ZooEntry {
        name: "vit-base-patch16-224",
        family: "vit",
        modality: "vision",
        published_parameters: 86_567_656,
        source: "Dosovitskiy et al. 2020 (arXiv:2010.11929): 86 M; torchvision vit_b_16 num_params: 86,567,656",
        shape: ShapeInput::Image { default: 224, resizable: false },
    },
    ZooEntry {
        name: "resnet50",
        family: "resnet",
        modality: "vision",
        published_parameters: 25_557_032,
        source: "torchvision resnet50 num_params: 25,557,032",
        shape: ShapeInput::Image { default: 224, resizable: true },
    },
    ZooEntry {
        name: "mobilenet-v2",
        family: "mobilenet",
        modality: "vision",
        published_parameters: 3_504_872,
        source: "torchvision mobilenet_v2 num_params: 3,504,872",
        shape: ShapeInput::Image { default: 224, resizable: true },
    },
    ZooEntry {
        name: "whisper-tiny",
        family: "whisper",
        modality: "audio",
        // Only the whole of whisper-tiny is published: 37,760,640. Its decoder takes 29,552,256 by the published
        // dimensions (51,865 tokens, 448 positions, 4 layers of width 384), which leaves this for the encoder.
        published_parameters: 37_760_640 - 29_552_256,
        source: "Radford et al. 2022 (arXiv:2212.04356): 39 M; transformers WhisperForConditionalGeneration: \
                 37,760,640, of which the decoder 29,552,256",
        shape: ShapeInput::AudioFrames { default: 3_000 },
    },
];

/// Every model of the zoo.
pub fn zoo() -> &'static [ZooEntry] {
    ZOO
}

/// The zoo model of that name.
pub fn zoo_entry(name: &str) -> Option<&'static ZooEntry> {
    ZOO.iter().find(|entry| entry.name == name)
}

/// The network of that name, without weights.
pub(crate) fn architecture(name: &str) -> Option<Architecture> {
    match name {
        "bert-base-uncased" => Some(bert::bert_base(name)),
        "distilbert-base" => Some(bert::distilbert_base(name)),
        "gpt2" => Some(gpt2::gpt2_small(name)),
        "vit-base-patch16-224" => Some(vit::vit_base(name)),
        "resnet50" => Some(resnet::resnet50(name)),
        "mobilenet-v2" => Some(mobilenet::mobilenet_v2(name)),
        "whisper-tiny" => Some(whisper::tiny_encoder(name)),
        _ => None,
    }
}

/// Writes the zoo model `name` to `output` and returns its content hash; the bytes are the same on every machine.
///
/// `output` appears whole or not at all.
///
/// # Errors
///
/// [`GraphError::UnknownModel`] for a name that is not in the zoo, [`GraphError::Io`] if the file cannot be written.
pub fn build(name: &str, output: &Path) -> Result<ContentHash, GraphError> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, sha256) = build_in(name, folder)?;
    file.persist(output).map_err(|error| GraphError::io("write", output)(error.error))?;
    Ok(sha256)
}

/// Writes the zoo model `name` to a temporary file in `folder`.
pub(crate) fn build_in(name: &str, folder: &Path) -> Result<(NamedTempFile, ContentHash), GraphError> {
    let architecture = architecture(name).ok_or_else(|| GraphError::UnknownModel {
        name: name.to_owned(),
        nearest: nearest(name, ZOO.iter().map(|entry| entry.name)),
    })?;
    let mut file = NamedTempFile::new_in(folder).map_err(GraphError::io("create a file in", folder))?;
    let mut out =
        BufWriter::with_capacity(WRITE_BUFFER_BYTES, Hashing { file: file.as_file_mut(), hasher: Sha256::new() });
    let written = architecture.write(&mut out).and_then(|()| out.flush());
    written.map_err(GraphError::io("write a model in", folder))?;
    let sha256 = ContentHash(out.get_mut().hasher.finalize_reset().into());
    drop(out);
    Ok((file, sha256))
}

/// Hashes what it writes.
struct Hashing<'a> {
    file: &'a mut File,
    hasher: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
