//! Operators that ONNX Runtime adds to ONNX's own (domain `com.microsoft`): what its optimiser and its converters write.
//!
//! Inputs and outputs are those of
//! [its list](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

use crate::{
    model::ElementType,
    shapes::{Call, Fact, Inferred, attribute_int, compute::product_dims, dim},
};

/// One output like the first input.
const LIKE_FIRST: &[&str] = &[
    "BiasGelu",
    "FastGelu",
    "Gelu",
    "GroupQueryAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
];

pub(super) fn infer(call: &Call<'_>) -> Option<Inferred> {
    if call.node.output.len() == 1 && LIKE_FIRST.contains(&call.operator()) {
        return Some(call.input(0).and_then(|x| call.like(x.dims.clone())));
    }
    match call.operator() {
        "MatMulNBits" => Some(block_quantised(call)),
        "FusedMatMul" => Some(fused_product(call)),
        "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => Some(float_product(call)),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => Some(skip_norm(call)),
        "MultiHeadAttention" if call.node.output.len() == 1 => Some(multi_head(call)),
        "Attention" if call.node.output.len() == 1 => Some(attention(call)),
        _ => None,
    }
}

fn block_quantised(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let length = |name| attribute_int(call.node, name).ok_or_else(|| format!("it has no {name}"));
    let (inputs, outputs) = (dim(i128::from(length("K")?))?, dim(i128::from(length("N")?))?);
    let mut dims = x.dims.clone();
    match dims.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => return Err(format!("{inputs} × {outputs} weights over {:?}", x.dims)),
    }
    call.like(dims)
}

fn fused_product(call: &Call<'_>) -> Inferred {
    let turned = |index: usize, name: &str| {
        let mut dims = call.input(index)?.dims.clone();
        if let ([.., rows, columns], true) = (&mut dims[..], call.int(name, 0) != 0) {
            std::mem::swap(rows, columns);
        }
        Ok::<_, String>(dims)
    };
    call.like(product_dims(&turned(0, "transA")?, &turned(1, "transB")?)?)
}

fn float_product(call: &Call<'_>) -> Inferred {
    let dims = product_dims(&call.input(0)?.dims, &call.input(1)?.dims)?;
    Ok(vec![call.output(ElementType::Float32, dims)])
}

/// The norm, mean and inverse deviation (which inference leaves out), and the sum that was normed.
fn skip_norm(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let like = || call.output(x.element, x.dims.clone());
    let statistic = || {
        let kept = x.dims.len().saturating_sub(1);
        Fact::activation(ElementType::Float32, [&x.dims[..kept], &[1]].concat())
    };
    Ok(vec![like(), statistic(), statistic(), like()])
}

fn multi_head(call: &Call<'_>) -> Inferred {
    let query = call.input(0)?;
    let width = call.optional(2).and_then(|value| value.dims.last().copied());
    match (&query.dims[..], width) {
        ([batch, length, _], Some(width)) => call.like(vec![*batch, *length, width]),
        _ => Err(format!("queries {:?} without values of three dimensions", query.dims)),
    }
}

/// All three projections in one weight of `[width, 3 · inner]`.
fn attention(call: &Call<'_>) -> Inferred {
    let (x, weight) = (call.input(0)?, call.input(1)?);
    match (&x.dims[..], &weight.dims[..]) {
        ([batch, length, _], [_, all]) => call.like(vec![*batch, *length, all / 3]),
        _ => Err(format!("{:?} over {:?}", weight.dims, x.dims)),
    }
}
