//! ONNX graphs: what a model costs to run, and where its file comes from.
//!
//! [`OnnxModel`] reads any ONNX file into parameters, operators, multiply-accumulates, bytes moved and memory held at a
//! given [`Shape`]. [`build`] writes the models of the [`zoo`]: published architectures with seeded random weights,
//! since speed does not depend on their values. [`ModelCache`] keeps built and registered files by content hash.
//!
//! Nothing here runs a model, and nothing here is downloaded.

mod builder;
mod cache;
mod costs;
mod error;
mod lifetimes;
mod model;
mod profile;
mod proto;
mod reader;
mod shapes;
mod zoo;

pub use cache::{CachedModel, ModelCache, nearest};
pub use error::GraphError;
pub use model::{ConcreteInput, Dim, ElementType, InputSpec, OnnxModel, Shape};
pub use profile::{GraphProfile, KindProfile};
pub use zoo::{MINIATURES, ShapeInput, ZooEntry, build, build_miniature, zoo, zoo_entry, zoo_structure};
