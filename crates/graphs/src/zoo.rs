//! The model zoo: published architectures, built here with seeded random weights.
//!
//! Each module below states one family's dimensions; parameter counts are held against the published ones by tests.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use messages::{ContentHash, Precision};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::{builder::Architecture, cache::nearest, error::GraphError, model::OnnxModel};

mod bart;
mod bert;
mod blip;
mod clap;
mod clip;
mod detr;
mod entries;
mod gpt2;
mod llama;
mod llava;
mod mobilenet;
mod resnet;
mod t5;
mod vit;
mod wav2vec2;
mod whisper;

use entries::ZOO;

/// Version of the builders; a change of any file's bytes raises it, so that caches build anew.
pub(crate) const BUILDER_VERSION: u32 = 2;

/// Bytes gathered before they are hashed and written.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// One model of the zoo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZooEntry {
    /// Its name, e.g. `bert-base-uncased`.
    pub name: &'static str,
    /// Its family, e.g. `bert`.
    pub family: &'static str,
    /// `text`, `vision`, `audio` or `multimodal`.
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
    /// Samples of sound.
    Samples {
        /// Usual number.
        default: u32,
        /// Least number that makes a frame.
        min: u32,
    },
    /// Mel frames; always this many.
    AudioFrames {
        /// The number of frames.
        default: u32,
    },
}

impl ShapeInput {
    /// The sequence length and the image size to use where none are given.
    pub fn usual(&self) -> (Option<u32>, Option<u32>) {
        match self {
            Self::Sequence { default, .. } | Self::Samples { default, .. } => (Some(*default), None),
            Self::Image { default, .. } => (None, Some(*default)),
            Self::AudioFrames { .. } => (None, None),
        }
    }
}

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
    Some(match name {
        "bert-base-uncased" => bert::bert(name, &bert::BASE),
        "bert-tiny" => bert::bert(name, &bert::TINY),
        "distilbert-base" => bert::bert(name, &bert::DISTILBERT),
        "t5-small" => t5::t5(name, &t5::SMALL),
        "bart-base" => bart::bart(name, &bart::BASE),
        "gpt2" => gpt2::decoder(name, &gpt2::GPT2),
        "distilgpt2" => gpt2::decoder(name, &gpt2::DISTILGPT2),
        "opt-125m" => gpt2::decoder(name, &gpt2::OPT_125M),
        "llama-68m" => llama::llama(name, &llama::LLAMA_68M),
        "smollm2-135m" => llama::llama(name, &llama::SMOLLM2_135M),
        "vit-base-patch16-224" => vit::vit(name, &vit::BASE),
        "vit-tiny-patch16-224" => vit::vit(name, &vit::TINY),
        "deit-tiny-distilled-patch16-224" => vit::vit(name, &vit::DEIT_TINY),
        "deit-small-patch16-224" => vit::vit(name, &vit::DEIT_SMALL),
        "clip-vit-base-patch32" => clip::clip(name, &clip::VIT_BASE_PATCH32),
        "detr-resnet-50" => detr::detr(name, &detr::RESNET50),
        "resnet18" => resnet::resnet(name, &resnet::RESNET18),
        "resnet50" => resnet::resnet(name, &resnet::RESNET50),
        "mobilenet-v2" => mobilenet::mobilenet_v2(name, mobilenet::V2),
        "whisper-tiny" => whisper::encoder(name, &whisper::TINY),
        "whisper-base" => whisper::whisper(name, &whisper::BASE),
        "wav2vec2-base" => wav2vec2::wav2vec2(name, &wav2vec2::BASE),
        "clap-htsat-unfused" => clap::clap(name, &clap::HTSAT_UNFUSED),
        "smolvlm-256m" => llava::llava(name, &llava::SMOLVLM_256M),
        "blip-image-captioning-base" => blip::blip(name, &blip::CAPTIONING_BASE),
        _ => return None,
    })
}

/// Kinds of network that [`build_miniature`] knows.
pub const MINIATURES: &[&str] = &[
    "bert",
    "distilbert",
    "t5",
    "bart",
    "gpt2",
    "opt",
    "llama",
    "vit",
    "deit",
    "clip",
    "detr",
    "resnet",
    "mobilenet",
    "whisper",
    "wav2vec2",
    "clap",
    "llava",
    "blip",
];

/// A network of that kind with few and narrow layers, without weights.
pub(crate) fn miniature(kind: &str) -> Option<Architecture> {
    let name = format!("{kind}-miniature");
    Some(match kind {
        "bert" => bert::bert(&name, &bert::MINIATURE),
        "distilbert" => bert::bert(&name, &bert::DISTILBERT_MINIATURE),
        "t5" => t5::t5(&name, &t5::MINIATURE),
        "bart" => bart::bart(&name, &bart::MINIATURE),
        "gpt2" => gpt2::decoder(&name, &gpt2::GPT2_MINIATURE),
        "opt" => gpt2::decoder(&name, &gpt2::OPT_MINIATURE),
        "llama" => llama::llama(&name, &llama::MINIATURE),
        "vit" => vit::vit(&name, &vit::MINIATURE),
        "deit" => vit::vit(&name, &vit::DEIT_MINIATURE),
        "clip" => clip::clip(&name, &clip::MINIATURE),
        "detr" => detr::detr(&name, &detr::MINIATURE),
        "resnet" => resnet::resnet(&name, &resnet::MINIATURE),
        "mobilenet" => mobilenet::mobilenet_v2(&name, mobilenet::MINIATURE),
        "whisper" => whisper::whisper(&name, &whisper::MINIATURE),
        "wav2vec2" => wav2vec2::wav2vec2(&name, &wav2vec2::MINIATURE),
        "clap" => clap::clap(&name, &clap::MINIATURE),
        "llava" => llava::llava(&name, &llava::MINIATURE),
        "blip" => blip::blip(&name, &blip::MINIATURE),
        _ => return None,
    })
}

/// The zoo model `name` without its weights, in fp32; nothing is written.
///
/// # Errors
///
/// [`GraphError::UnknownModel`] for a name that is not in the zoo.
///
/// # Panics
///
/// Never: every architecture is a whole model, which a test holds them to.
pub fn zoo_structure(name: &str) -> Result<OnnxModel, GraphError> {
    let architecture = known(name, architecture(name), zoo().iter().map(|entry| entry.name))?;
    Ok(OnnxModel::new(architecture.structure()).expect("a builder makes whole models"))
}

/// Writes the zoo model `name` to `output` and returns its content hash; the bytes are the same on every machine.
///
/// `output` appears whole or not at all.
///
/// # Errors
///
/// [`GraphError::UnknownModel`] for a name that is not in the zoo, [`GraphError::Io`] if the file cannot be written.
pub fn build(name: &str, precision: Precision, output: &Path) -> Result<ContentHash, GraphError> {
    write_to(known(name, architecture(name), ZOO.iter().map(|entry| entry.name))?, precision, output)
}

/// Writes a network of a kind in [`MINIATURES`] with few and narrow layers: real, and small enough to try things out.
///
/// # Errors
///
/// As [`build`].
pub fn build_miniature(kind: &str, precision: Precision, output: &Path) -> Result<ContentHash, GraphError> {
    write_to(known(kind, miniature(kind), MINIATURES.iter().copied())?, precision, output)
}

fn known<'a>(
    name: &str,
    found: Option<Architecture>,
    names: impl Iterator<Item = &'a str>,
) -> Result<Architecture, GraphError> {
    found.ok_or_else(|| GraphError::UnknownModel { name: name.to_owned(), nearest: nearest(name, names) })
}

fn write_to(architecture: Architecture, precision: Precision, output: &Path) -> Result<ContentHash, GraphError> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, sha256) = write_in(architecture, precision, folder)?;
    file.persist(output).map_err(|error| GraphError::io("write", output)(error.error))?;
    Ok(sha256)
}

/// Writes the zoo model `name` to a temporary file in `folder`.
pub(crate) fn build_in(
    name: &str,
    precision: Precision,
    folder: &Path,
) -> Result<(NamedTempFile, ContentHash), GraphError> {
    write_in(known(name, architecture(name), ZOO.iter().map(|entry| entry.name))?, precision, folder)
}

fn write_in(
    architecture: Architecture,
    precision: Precision,
    folder: &Path,
) -> Result<(NamedTempFile, ContentHash), GraphError> {
    let mut file = NamedTempFile::new_in(folder).map_err(GraphError::io("create a file in", folder))?;
    let mut out =
        BufWriter::with_capacity(WRITE_BUFFER_BYTES, Hashing { file: file.as_file_mut(), hasher: Sha256::new() });
    let written = architecture.at(precision).write(&mut out).and_then(|()| out.flush());
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
