//! The only place that knows `graphs`: a job's model file, its costs and its inputs.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use graphs::{ConcreteInput, ElementType, GraphError, ModelCache, OnnxModel, Shape};
use messages::{Configuration, ContentHash, Failure, FailureKind, GraphCosts, Precision};

use crate::{
    failure::{FailureExt, chain, failure},
    protocol::{Element, Input},
};

/// Most models and shapes whose costs and inputs are remembered, a few kB each.
const REMEMBERED_MAX: usize = 256;

/// A model ready to be measured.
#[derive(Debug, Clone)]
pub(crate) struct PreparedModel {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What it costs at the job's shape.
    pub(crate) costs: GraphCosts,
    /// What it is fed with.
    pub(crate) inputs: Vec<Input>,
}

/// Finds models and remembers what was read from them.
#[derive(Debug)]
pub(crate) struct Models {
    cache: ModelCache,
    remembered: Mutex<HashMap<(ContentHash, Precision, Shape), Read>>,
}

/// What is read from a model at one shape.
type Read = (GraphCosts, Vec<Input>);

impl Models {
    pub(crate) fn new(cache: ModelCache) -> Self {
        Self { cache, remembered: Mutex::default() }
    }

    /// Finds the configuration's model, building a missing one of the zoo; blocks, for seconds if it builds.
    pub(crate) fn prepare(&self, configuration: &Configuration) -> Result<PreparedModel, Failure> {
        let located =
            self.cache.locate(&configuration.model, configuration.precision).map_err(|error| explain(&error))?;
        let shape = Shape::of(configuration);
        let key = (configuration.model.sha256, configuration.precision, shape);
        // A poisoned lock guards only a memory of pure results.
        let remembered = || self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((costs, inputs)) = remembered().get(&key).cloned() {
            return Ok(PreparedModel { path: located.path, costs, inputs });
        }
        let model = OnnxModel::read(&located.path).map_err(|error| explain(&error))?;
        let expected = model.expect_precision(&configuration.model.name, configuration.precision);
        expected.map_err(|error| explain(&error))?;
        let costs = model.costs(&shape).map_err(|error| explain(&error))?;
        let concrete = model.concrete_inputs(&shape).map_err(|error| explain(&error))?;
        let inputs = concrete.into_iter().map(input).collect::<Result<Vec<_>, _>>()?;
        let mut remembered = remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key, (costs.clone(), inputs.clone()));
        Ok(PreparedModel { path: located.path, costs, inputs })
    }
}

/// As [`Models::prepare`], without blocking the caller's thread.
pub(crate) async fn prepare(models: &Arc<Models>, configuration: &Configuration) -> Result<PreparedModel, Failure> {
    let (models, configuration) = (Arc::clone(models), configuration.clone());
    let prepared = tokio::task::spawn_blocking(move || models.prepare(&configuration)).await;
    prepared.unwrap_or_else(|error| Err(failure(FailureKind::Machine, format!("reading the model failed: {error}"))))
}

fn input(concrete: ConcreteInput) -> Result<Input, Failure> {
    let ConcreteInput { name, element, dims, value_max } = concrete;
    let element = match element {
        ElementType::Float32 => Element::Float32,
        ElementType::Float64 => Element::Float64,
        ElementType::Int32 => Element::Int32,
        ElementType::Int64 => Element::Int64,
        ElementType::Uint8 => Element::Uint8,
        ElementType::Bool => Element::Bool,
        other => {
            let message = format!("input `{name}` has elements of type {other:?}, which this runner cannot make");
            return Err(failure(FailureKind::Unavailable, message));
        }
    };
    Ok(Input { name, element, dims, value_max })
}

/// Turns an error about a model into a failure of the right kind.
fn explain(error: &GraphError) -> Failure {
    let kind = match error {
        GraphError::UnknownModel { .. } | GraphError::ModelMissing { .. } => FailureKind::ModelMissing,
        GraphError::ModelCorrupt { .. }
        | GraphError::NotOnnx { .. }
        | GraphError::Inference { .. }
        | GraphError::BadRecord { .. } => FailureKind::ModelCorrupt,
        GraphError::ShapeMismatch { .. }
        | GraphError::MissingDimension { .. }
        | GraphError::BadName { .. }
        | GraphError::ZooName { .. } => FailureKind::InvalidJob,
        GraphError::ExternalWeights { .. }
        | GraphError::OtherPrecision { .. }
        | GraphError::UnknownOperator { .. }
        | GraphError::UnknownDimension { .. }
        | GraphError::TooManyOperators { .. } => FailureKind::Unavailable,
        GraphError::Io { .. } => FailureKind::Machine,
    };
    let failed = failure(kind, chain(error));
    match kind {
        FailureKind::ModelMissing => failed.suggest("`augur model list` shows this machine's models"),
        FailureKind::ModelCorrupt => failed.suggest("delete the file and register or build the model again"),
        _ => failed,
    }
}
