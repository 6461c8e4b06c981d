//! What a model takes, and how long each dimension is at a given [`Shape`].

use crate::{
    error::GraphError,
    model::{Dim, ElementType, Shape},
    proto::{GraphProto, ValueInfoProto},
    shapes::{Facts, attribute_int, wrap_axis},
};

/// Bound of integer inputs that index nothing: masks and token types.
const VALUE_MAX_USUAL: u64 = 2;

/// One input as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub element: ElementType,
    /// Its dimensions.
    pub dims: Vec<Dim>,
}

/// One input at a given shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcreteInput {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub element: ElementType,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// Exclusive upper bound of its values if they are integers, e.g. the size of the vocabulary.
    pub value_max: u64,
}

impl InputSpec {
    pub(crate) fn of(input: &ValueInfoProto) -> Result<Self, String> {
        let fail = |reason: &str| format!("input `{}`: {reason}", input.name);
        let (element, dims) = input.as_tensor().ok_or_else(|| fail("it is no tensor of known rank"))?;
        let dims = dims.iter().map(Dim::of).collect::<Result<_, _>>().map_err(|reason| fail(&reason))?;
        Ok(Self { name: input.name.clone(), element, dims })
    }

    /// The dimensions at `shape` as far as names alone decide; `None` if one is unknown.
    pub(crate) fn declared_dims(&self, shape: &Shape) -> Option<Vec<u64>> {
        let length = |dim: &Dim| match dim {
            Dim::Fixed(length) => Some(*length),
            Dim::Symbol(name) => match Role::named(name)? {
                Role::Batch => Some(u64::from(shape.batch_size)),
                Role::Image => shape.image_size.map(u64::from),
                _ => shape.sequence_length.map(u64::from),
            },
        };
        self.dims.iter().map(length).collect()
    }

    /// What dimension `index` stands for: by its name, else by its place.
    fn role(&self, index: usize) -> Role {
        if let Dim::Symbol(name) = &self.dims[index]
            && let Some(role) = Role::named(name)
        {
            return role;
        }
        let rank = self.dims.len();
        match (self.element, rank, index) {
            (_, 2.., 0) => Role::Batch,
            // A 1-D input with a free dimension has one element per item.
            (_, 1, 0) if matches!(self.dims[0], Dim::Symbol(_)) => Role::Batch,
            (ElementType::Int64 | ElementType::Int32, 2, 1) => Role::Sequence,
            (element, 4, 2 | 3) if element.is_float() => Role::Image,
            // Either [batch, sequence, features] or [batch, bins, frames].
            (element, 3, 1 | 2) if element.is_float() => Role::MaybeSequence,
            _ => Role::Other,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Batch,
    Sequence,
    /// A sequence only if its length is the one asked for.
    MaybeSequence,
    Image,
    Other,
}

impl Role {
    /// Names that exporters give to free dimensions.
    fn named(symbol: &str) -> Option<Self> {
        let symbol = symbol.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
        if symbol == "n" || has(&["batch"]) {
            Some(Self::Batch)
        } else if has(&["seq", "length", "frames", "token"]) {
            Some(Self::Sequence)
        } else if matches!(symbol.as_str(), "h" | "w") || has(&["height", "width", "image"]) {
            Some(Self::Image)
        } else {
            None
        }
    }
}

/// Every input's dimensions at `shape`.
pub(super) fn resolve(inputs: &[InputSpec], shape: &Shape) -> Result<Vec<Vec<u64>>, GraphError> {
    if shape.batch_size == 0 {
        let possible = "at least 1 is possible".to_owned();
        return Err(GraphError::ShapeMismatch { dimension: "batch size", asked: 0, possible });
    }
    let mut taken = Taken::default();
    let resolved = inputs
        .iter()
        .map(|input| (0..input.dims.len()).map(|index| resolve_dim(input, index, shape, &mut taken)).collect())
        .collect::<Result<Vec<Vec<u64>>, GraphError>>()?;
    let unused = |dimension, asked: Option<u32>, taken: bool| match asked {
        Some(asked) if !taken => {
            let possible = format!("its inputs have no {dimension} to set");
            Err(GraphError::ShapeMismatch { dimension, asked: u64::from(asked), possible })
        }
        _ => Ok(()),
    };
    unused("sequence length", shape.sequence_length, taken.sequence)?;
    unused("image size", shape.image_size, taken.image)?;
    Ok(resolved)
}

/// Which of the shape's dimensions an input has taken.
#[derive(Default)]
struct Taken {
    sequence: bool,
    image: bool,
}

fn resolve_dim(input: &InputSpec, index: usize, shape: &Shape, taken: &mut Taken) -> Result<u64, GraphError> {
    let role = input.role(index);
    let asked = match role {
        Role::Batch => Some(shape.batch_size),
        Role::Sequence | Role::MaybeSequence => shape.sequence_length,
        Role::Image => shape.image_size,
        Role::Other => None,
    };
    let dimension = match role {
        Role::Batch => "batch size",
        Role::Image => "image size",
        _ => "sequence length",
    };
    let asked = asked.map(u64::from);
    let length = match (&input.dims[index], asked) {
        (Dim::Symbol(symbol), _) if role == Role::Other => {
            return Err(GraphError::UnknownDimension { input: input.name.clone(), symbol: symbol.clone() });
        }
        (Dim::Symbol(_), None) => {
            return Err(GraphError::MissingDimension { dimension, input: input.name.clone() });
        }
        (Dim::Symbol(_), Some(asked)) => asked,
        (Dim::Fixed(length), Some(asked)) if *length != asked => {
            if role == Role::MaybeSequence {
                return Ok(*length);
            }
            let possible = format!("exactly {length} is possible");
            return Err(GraphError::ShapeMismatch { dimension, asked, possible });
        }
        (Dim::Fixed(length), _) => *length,
    };
    taken.sequence |= matches!(role, Role::Sequence | Role::MaybeSequence);
    taken.image |= role == Role::Image;
    Ok(length)
}

/// Exclusive upper bound of the integers that `input` may hold: the length of what it indexes.
pub(super) fn value_max(graph: &GraphProto, facts: &Facts, input: &str) -> u64 {
    let mut aliases = vec![input];
    let mut bound = None;
    for node in &graph.node {
        let [first, rest @ ..] = node.input.as_slice() else { continue };
        if node.op_type == "Gather" && rest.first().is_some_and(|indices| aliases.contains(&indices.as_str())) {
            let rows = facts.get(first).and_then(|table| {
                let axis = wrap_axis(attribute_int(node, "axis").unwrap_or(0), table.dims.len()).ok()?;
                table.dims.get(axis).copied()
            });
            bound = bound.into_iter().chain(rows).min();
        }
        let is_view =
            matches!(node.op_type.as_str(), "Identity" | "Cast" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze");
        if is_view && aliases.contains(&first.as_str()) {
            aliases.extend(node.output.iter().map(String::as_str));
        }
    }
    bound.unwrap_or(VALUE_MAX_USUAL).max(1)
}
