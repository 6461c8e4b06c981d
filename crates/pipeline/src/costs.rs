//! What models cost to run, in many shapes.

use std::collections::{HashMap, hash_map::Entry};

use graphs::{GraphError, ModelCache, OnnxModel, Shape};
use messages::{GraphCosts, ModelRef, Precision};

/// Costs of graphs; each file is read once.
pub(crate) struct Costs<'a> {
    models: &'a ModelCache,
    graphs: HashMap<(ModelRef, Precision), OnnxModel>,
    known: HashMap<(ModelRef, Precision, Shape), GraphCosts>,
}

impl<'a> Costs<'a> {
    pub(crate) fn new(models: &'a ModelCache) -> Self {
        Self { models, graphs: HashMap::new(), known: HashMap::new() }
    }

    pub(crate) fn of(
        &mut self,
        model: &ModelRef,
        precision: Precision,
        shape: Shape,
    ) -> Result<GraphCosts, GraphError> {
        let unknown = match self.known.entry((model.clone(), precision, shape)) {
            Entry::Occupied(known) => return Ok(known.get().clone()),
            Entry::Vacant(unknown) => unknown,
        };
        let graph = match self.graphs.entry((model.clone(), precision)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(OnnxModel::read(&self.models.locate(model, precision)?.path)?),
        };
        Ok(unknown.insert(graph.costs(&shape)?).clone())
    }
}
