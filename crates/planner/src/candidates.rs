//! The configurations that could be measured: a bounded cross product.

use std::fmt;

use features::Subject;
use messages::{Backend, Configuration, Device, GraphCosts, ModelRef, Precision};

use crate::PlannerError;

/// Most configurations that one search space may have: all are predicted at once.
pub const CANDIDATES_MAX: usize = 10_000;

/// A configuration that could be measured, ready to be predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The configuration, the device and the model's costs.
    pub subject: Subject,
}

/// The shape of one batch, which decides a graph's costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Items per batch.
    pub batch_size: u32,
    /// Tokens per item, for models whose input has such a dimension.
    pub sequence_length: Option<u32>,
    /// Pixels per image edge, for models whose input has such a dimension.
    pub image_size: Option<u32>,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}", self.batch_size)?;
        self.sequence_length.map_or(Ok(()), |length| write!(f, " sequence {length}"))?;
        self.image_size.map_or(Ok(()), |size| write!(f, " image {size}"))
    }
}

/// A model and the sizes of its input that are of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchModel {
    /// The model.
    pub model: ModelRef,
    /// Sequence lengths; empty if its input has no such dimension.
    pub sequence_lengths: Vec<u32>,
    /// Image sizes; empty if its input has no such dimension.
    pub image_sizes: Vec<u32>,
}

/// What may be combined with what, on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    /// The device that would measure.
    pub device: Device,
    /// The runtime that would execute.
    pub backend: Backend,
    /// The browser that it would run in, if in one.
    pub browser: Option<String>,
    /// The models with their input sizes.
    pub models: Vec<SearchModel>,
    /// Number formats.
    pub precisions: Vec<Precision>,
    /// Items per batch.
    pub batch_sizes: Vec<u32>,
    /// Threads of the session.
    pub threads: Vec<u32>,
}

impl SearchSpace {
    /// Number of configurations in it, repeats counted.
    pub fn size(&self) -> u128 {
        let shapes: u128 = self
            .models
            .iter()
            .map(|model| optional(&model.sequence_lengths).len() as u128 * optional(&model.image_sizes).len() as u128)
            .sum();
        shapes * (self.precisions.len() as u128) * (self.batch_sizes.len() as u128) * (self.threads.len() as u128)
    }
}

/// Spells out every configuration of a search space, model by model.
///
/// `costs` is asked once per model and shape. The platform is the device's.
///
/// # Errors
///
/// [`PlannerError::TooManyCandidates`] above [`CANDIDATES_MAX`], before `costs` is asked anything;
/// [`PlannerError::Costs`] for the first model and shape that `costs` fails on.
pub fn candidate_grid<E>(
    space: &SearchSpace,
    mut costs: impl FnMut(&ModelRef, &Shape) -> Result<GraphCosts, E>,
) -> Result<Vec<Candidate>, PlannerError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let found = space.size();
    if found > CANDIDATES_MAX as u128 {
        return Err(PlannerError::TooManyCandidates { found, limit: CANDIDATES_MAX });
    }
    let mut candidates = Vec::new();
    for entry in &space.models {
        for shape in shapes(entry, &space.batch_sizes) {
            let costs = costs(&entry.model, &shape).map_err(|source| PlannerError::Costs {
                model: entry.model.clone(),
                shape: shape.to_string(),
                source: source.into(),
            })?;
            for precision in &space.precisions {
                candidates.extend(
                    space
                        .threads
                        .iter()
                        .map(|threads| candidate(space, &entry.model, shape, *precision, *threads, costs.clone())),
                );
            }
        }
    }
    Ok(candidates)
}

fn shapes(entry: &SearchModel, batch_sizes: &[u32]) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for sequence_length in optional(&entry.sequence_lengths) {
        for image_size in optional(&entry.image_sizes) {
            shapes.extend(batch_sizes.iter().map(|batch_size| Shape {
                batch_size: *batch_size,
                sequence_length,
                image_size,
            }));
        }
    }
    shapes
}

/// The sizes of a dimension, or the one `None` of a model without it.
fn optional(sizes: &[u32]) -> Vec<Option<u32>> {
    if sizes.is_empty() { vec![None] } else { sizes.iter().copied().map(Some).collect() }
}

fn candidate(
    space: &SearchSpace,
    model: &ModelRef,
    shape: Shape,
    precision: Precision,
    threads: u32,
    costs: GraphCosts,
) -> Candidate {
    let configuration = Configuration {
        model: model.clone(),
        platform: space.device.platform,
        backend: space.backend,
        precision,
        batch_size: shape.batch_size,
        sequence_length: shape.sequence_length,
        image_size: shape.image_size,
        threads,
        browser: space.browser.clone(),
    };
    Candidate { subject: Subject { configuration, device: space.device.clone(), costs } }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use messages::{ContentHash, Platform};

    use super::*;

    fn space() -> SearchSpace {
        let model = |name: &str, sequence_lengths: &[u32], image_sizes: &[u32]| SearchModel {
            model: ModelRef { name: name.to_owned(), sha256: ContentHash([0; 32]) },
            sequence_lengths: sequence_lengths.to_vec(),
            image_sizes: image_sizes.to_vec(),
        };
        SearchSpace {
            device: Device::unknown("Test CPU", Platform::Cpu),
            backend: Backend::Onnxruntime,
            browser: None,
            models: vec![model("text", &[64, 128], &[]), model("image", &[], &[224]), model("plain", &[], &[])],
            precisions: vec![Precision::Fp32],
            batch_sizes: vec![1, 4, 16],
            threads: vec![1, 2],
        }
    }

    #[test]
    fn the_grid_is_the_cross_product_and_asks_for_costs_once_per_shape() {
        let mut asked = Vec::new();
        let candidates = candidate_grid(&space(), |model, shape| {
            asked.push((model.name.clone(), *shape));
            Ok::<_, std::io::Error>(GraphCosts {
                parameters: u64::from(shape.batch_size),
                operators: Vec::new(),
                memory: None,
            })
        })
        .expect("small");
        assert_eq!(candidates.len(), (2 + 1 + 1) * 3 * 2);
        assert_eq!(candidates.len() as u128, space().size());
        let distinct: HashSet<_> = candidates.iter().map(|candidate| &candidate.subject.configuration).collect();
        assert_eq!(distinct.len(), candidates.len());
        assert_eq!(asked.len(), 12);
        assert_eq!(asked.iter().collect::<HashSet<_>>().len(), 12);
        for candidate in &candidates {
            let configuration = &candidate.subject.configuration;
            assert_eq!(candidate.subject.costs.parameters, u64::from(configuration.batch_size));
            assert_eq!(configuration.sequence_length.is_some(), configuration.model.name == "text");
            assert_eq!(configuration.image_size, (configuration.model.name == "image").then_some(224));
        }
    }

    #[test]
    fn a_huge_space_is_refused_before_any_cost_is_asked() {
        let mut huge = space();
        huge.batch_sizes = (1..=100_000).collect();
        let error = candidate_grid(&huge, |_, _| -> Result<GraphCosts, std::io::Error> { panic!("was asked") })
            .expect_err("too many");
        assert!(matches!(error, PlannerError::TooManyCandidates { found: 800_000, limit: CANDIDATES_MAX }), "{error}");
    }

    #[test]
    fn a_model_without_costs_is_named() {
        let error = candidate_grid(&space(), |_, _| Err::<GraphCosts, _>("no such file")).expect_err("no costs");
        assert_eq!(error.to_string(), "failed to get the graph costs of `text` at batch 1 sequence 64");
    }
}
