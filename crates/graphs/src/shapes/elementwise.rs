//! Operators whose output has the dimensions of their inputs, broadcast where there are several.

use crate::{
    model::ElementType,
    shapes::{Call, FOLDED_ELEMENTS_MAX, Fact, Inferred, elements},
};

/// Activation functions: one input, bounded by its bandwidth or by their arithmetic.
pub(crate) const ACTIVATIONS: &[&str] = &[
    "Celu",
    "Clip",
    "Elu",
    "Erf",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];

const UNARY: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Ceil",
    "Cos",
    "Cosh",
    "CumSum",
    "Exp",
    "Floor",
    "Log",
    "LogSoftmax",
    "Neg",
    "Reciprocal",
    "Round",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Hardmax",
    "Sqrt",
    "Tan",
    "Trilu",
    "IsNaN",
    "IsInf",
    "Not",
    "LpNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "LRN",
    "MeanVarianceNormalization",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// Arithmetic of several inputs.
pub(crate) const BROADCAST: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Mod",
    "Min",
    "Max",
    "Mean",
    "Sum",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
];

const COMPARE: &[&str] = &["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"];

pub(super) fn infer(call: &Call<'_>) -> Option<Inferred> {
    let operator = call.operator();
    if ACTIVATIONS.contains(&operator) || UNARY.contains(&operator) {
        return Some(unary(call));
    }
    if BROADCAST.contains(&operator) {
        return Some(broadcast_all(call, None));
    }
    if COMPARE.contains(&operator) {
        return Some(broadcast_all(call, Some(ElementType::Bool)));
    }
    match operator {
        "Where" => Some(choose(call)),
        "Cast" | "CastLike" => Some(cast(call)),
        "Dropout" | "Identity" => Some(identity(call)),
        "BatchNormalization" => Some(batch_norm(call)),
        "LayerNormalization" => Some(layer_norm(call)),
        _ => None,
    }
}

fn unary(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let element = match call.operator() {
        "IsNaN" | "IsInf" => ElementType::Bool,
        "QuantizeLinear" => match (call.optional(2), i32::try_from(call.int("output_dtype", 0))) {
            (Some(zero), _) => zero.element,
            (None, Ok(code)) if code != 0 => ElementType::from_code(code),
            _ => ElementType::Uint8,
        },
        "DequantizeLinear" => call.input(1)?.element,
        _ => x.element,
    };
    let fold: Option<fn(i64) -> i64> = match call.operator() {
        "Neg" => Some(i64::wrapping_neg),
        "Abs" => Some(i64::wrapping_abs),
        "Not" => Some(|value| i64::from(value == 0)),
        "Floor" | "Ceil" | "Round" => Some(|value| value),
        _ => None,
    };
    let ints = fold.and_then(|fold| Some(x.ints.as_ref()?.iter().map(|value| fold(*value)).collect()));
    Ok(vec![Fact { ints, ..call.output(element, x.dims.clone()) }])
}

fn identity(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let mask = call.output(ElementType::Bool, x.dims.clone());
    Ok(vec![x.clone(), mask])
}

fn batch_norm(call: &Call<'_>) -> Inferred {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    // The sizes must agree, else a wrong file would pass for a fast one.
    if scale.dims.last() != x.dims.get(1) {
        return Err(format!("scale {:?} does not fit {:?}", scale.dims, x.dims));
    }
    let statistics = call.output(x.element, scale.dims.clone());
    Ok(vec![call.output(x.element, x.dims.clone()), statistics.clone(), statistics])
}

fn layer_norm(call: &Call<'_>) -> Inferred {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    if broadcast(&x.dims, &scale.dims)? != x.dims {
        return Err(format!("scale {:?} does not fit {:?}", scale.dims, x.dims));
    }
    let axis = call.axis(-1, x.dims.len())?;
    let kept = |(index, length): (usize, &u64)| if index < axis { *length } else { 1 };
    let statistics = call.output(ElementType::Float32, x.dims.iter().enumerate().map(kept).collect());
    Ok(vec![call.output(x.element, x.dims.clone()), statistics.clone(), statistics])
}

fn cast(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let element = match call.operator() {
        "CastLike" => call.input(1)?.element,
        _ => i32::try_from(call.int("to", 0)).map_or(ElementType::Other(0), ElementType::from_code),
    };
    // Shapes may pass through float and back; their values survive that as they are whole.
    let ints = match element {
        ElementType::Bool => x.ints.as_ref().map(|ints| ints.iter().map(|value| i64::from(*value != 0)).collect()),
        _ => x.ints.clone(),
    };
    Ok(vec![Fact { element, dims: x.dims.clone(), ints, floats: None, constant: x.constant }])
}

fn broadcast_all(call: &Call<'_>, element: Option<ElementType>) -> Inferred {
    let dims = call.present().try_fold(Vec::new(), |dims, fact| broadcast(&dims, &fact.dims))?;
    let element = element.unwrap_or(call.input(0)?.element);
    let ints = fold_pair(call, &dims);
    Ok(vec![Fact { ints, ..call.output(element, dims) }])
}

fn choose(call: &Call<'_>) -> Inferred {
    let (condition, then, otherwise) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let dims = broadcast(&broadcast(&condition.dims, &then.dims)?, &otherwise.dims)?;
    let count = elements(&dims).unwrap_or(u64::MAX);
    let ints = (|| {
        let (condition, then, otherwise) = (spread(condition, count)?, spread(then, count)?, spread(otherwise, count)?);
        let choose = |((condition, then), otherwise)| if condition == 0 { otherwise } else { then };
        Some(condition.into_iter().zip(then).zip(otherwise).map(choose).collect())
    })();
    Ok(vec![Fact { ints, ..call.output(then.element, dims) }])
}

/// Computes a two-input operator on known integers.
fn fold_pair(call: &Call<'_>, dims: &[u64]) -> Option<Vec<i64>> {
    if call.inputs.len() != 2 {
        return None;
    }
    let count = elements(dims)?;
    let (left, right) = (spread(call.optional(0)?, count)?, spread(call.optional(1)?, count)?);
    let operator = call.operator();
    // A quotient of shapes that went through floats is no whole number in general.
    if operator == "Div" && call.optional(0)?.element.is_float() {
        return None;
    }
    left.into_iter().zip(right).map(|(a, b)| compute(operator, a, b)).collect()
}

fn compute(operator: &str, a: i64, b: i64) -> Option<i64> {
    let truth = |value: bool| Some(i64::from(value));
    match operator {
        "Add" | "Sum" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        "Mod" => a.checked_rem_euclid(b),
        "Pow" => a.checked_pow(u32::try_from(b).ok()?),
        "Min" => Some(a.min(b)),
        "Max" => Some(a.max(b)),
        "Equal" => truth(a == b),
        "Greater" => truth(a > b),
        "GreaterOrEqual" => truth(a >= b),
        "Less" => truth(a < b),
        "LessOrEqual" => truth(a <= b),
        "And" => truth(a != 0 && b != 0),
        "Or" => truth(a != 0 || b != 0),
        "Xor" => truth((a != 0) != (b != 0)),
        _ => None,
    }
}

/// The known integers of `fact`, repeated to `count` if there is but one; `None` where broadcasting needs more care.
fn spread(fact: &Fact, count: u64) -> Option<Vec<i64>> {
    let ints = fact.ints.as_ref()?;
    let count = usize::try_from(count).ok().filter(|count| *count as u64 <= FOLDED_ELEMENTS_MAX)?;
    match ints.as_slice() {
        [single] => Some(vec![*single; count]),
        many if many.len() == count => Some(many.to_vec()),
        _ => None,
    }
}

/// The rule of `NumPy`: dimensions agree from the end, or one of them is 1.
pub(super) fn broadcast(left: &[u64], right: &[u64]) -> Result<Vec<u64>, String> {
    let rank = left.len().max(right.len());
    let from_end = |dims: &[u64], back: usize| if back <= dims.len() { dims[dims.len() - back] } else { 1 };
    (1..=rank)
        .rev()
        .map(|back| match (from_end(left, back), from_end(right, back)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            (a, b) => Err(format!("{left:?} and {right:?} do not fit: {a} meets {b}")),
        })
        .collect()
}
