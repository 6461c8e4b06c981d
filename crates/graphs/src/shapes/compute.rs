//! Operators that do the arithmetic: convolutions, matrix products, pooling, reductions.

use crate::{
    model::ElementType,
    shapes::{Call, Inferred, attribute_ints, dim, elementwise::broadcast, signed, wrap_axis},
};

/// Reductions over axes.
const REDUCTIONS: &[&str] = &[
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

pub(super) fn infer(call: &Call<'_>) -> Option<Inferred> {
    let outputs = match call.operator() {
        "Conv" => conv(call, 1).and_then(|dims| call.like(dims)),
        "ConvInteger" => conv(call, 1).map(|dims| vec![call.output(ElementType::Int32, dims)]),
        "QLinearConv" => conv(call, 3).and_then(|dims| quantised(call, dims)),
        "QLinearMatMul" => quantised_product(call),
        "DynamicQuantizeLinear" => dynamic_quantise(call),
        "ConvTranspose" => conv_transpose(call),
        "MaxPool" | "AveragePool" | "LpPool" => pool(call),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => global_pool(call),
        "MatMul" | "MatMulInteger" => mat_mul(call),
        "Gemm" => gemm(call),
        // Its further outputs, caches of keys and values, must be declared.
        "Attention" if call.node.output.len() == 1 => attention(call),
        "ArgMax" | "ArgMin" => arg(call),
        "TopK" => top_k(call),
        "Resize" | "Upsample" => resize(call),
        "OneHot" => one_hot(call),
        operator if REDUCTIONS.contains(&operator) => reduce(call),
        _ => return None,
    };
    Some(outputs)
}

/// How a window moves over one spatial dimension.
#[derive(Clone, Copy)]
struct Window {
    kernel: i128,
    stride: i128,
    dilation: i128,
    before: i128,
    after: i128,
}

/// The windows over `spatial` dimensions, from the attributes that convolutions and pools share.
fn windows(call: &Call<'_>, kernel: &[i64], spatial: usize) -> Result<Vec<Window>, String> {
    let list = |name, usual| match attribute_ints(call.node, name) {
        Some(values) if values.len() == spatial => Ok(values.to_vec()),
        Some(values) => Err(format!("{name} {values:?} for {spatial} dimensions")),
        None => Ok(vec![usual; spatial]),
    };
    let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
    let pads = attribute_ints(call.node, "pads").map_or_else(|| vec![0; 2 * spatial], <[i64]>::to_vec);
    let positive = |values: &[i64]| values.iter().all(|value| *value > 0);
    if kernel.len() != spatial
        || pads.len() != 2 * spatial
        || ![kernel, &strides, &dilations].iter().all(|v| positive(v))
    {
        return Err(format!(
            "kernel {kernel:?}, strides {strides:?}, dilations {dilations:?}, pads {pads:?} do not fit"
        ));
    }
    let window = |index: usize| Window {
        kernel: i128::from(kernel[index]),
        stride: i128::from(strides[index]),
        dilation: i128::from(dilations[index]),
        before: i128::from(pads[index]),
        after: i128::from(pads[index + spatial]),
    };
    Ok((0..spatial).map(window).collect())
}

/// Output length of each spatial dimension.
fn slide(call: &Call<'_>, lengths: &[u64], windows: &[Window]) -> Result<Vec<u64>, String> {
    let auto_pad = call.node.attribute.iter().find(|attribute| attribute.name == "auto_pad");
    let auto_pad = auto_pad.map_or(&b"NOTSET"[..], |attribute| &attribute.s);
    let rounds_up = call.int("ceil_mode", 0) != 0;
    let slide_one = |(length, window): (&u64, &Window)| {
        let length = i128::from(*length);
        if auto_pad.starts_with(b"SAME") {
            return dim((length + window.stride - 1) / window.stride);
        }
        let padding = if auto_pad == b"VALID" { 0 } else { window.before + window.after };
        let room = length + padding - window.dilation * (window.kernel - 1) - 1;
        if room < 0 {
            return Err(format!("a window of {} does not fit into {length}", window.kernel));
        }
        let mut steps = room / window.stride;
        if rounds_up && room % window.stride != 0 {
            // A window may not start in the padding behind the input.
            steps += i128::from((steps + 1) * window.stride < length + window.before);
        }
        dim(steps + 1)
    };
    lengths.iter().zip(windows).map(slide_one).collect()
}

/// Dimensions of a convolution whose weight is input `weight_at`.
fn conv(call: &Call<'_>, weight_at: usize) -> Result<Vec<u64>, String> {
    let (x, weight) = (call.input(0)?, call.input(weight_at)?);
    let ([batch, channels, lengths @ ..], [to, from, kernel @ ..]) = (&x.dims[..], &weight.dims[..]) else {
        return Err(format!("{:?} over {:?}", weight.dims, x.dims));
    };
    let groups = u64::try_from(call.int("group", 1)).ok().filter(|groups| *groups > 0).ok_or("no groups")?;
    if from.checked_mul(groups) != Some(*channels) || to % groups != 0 {
        return Err(format!("{to} × {from} weights in {groups} groups over {channels} channels"));
    }
    let kernel: Vec<i64> = kernel.iter().map(|length| signed(*length)).collect();
    let windows = windows(call, &kernel, lengths.len())?;
    let lengths = slide(call, lengths, &windows)?;
    Ok([&[*batch, *to], &lengths[..]].concat())
}

/// An output of the type of the zero point that it is quantised with.
fn quantised(call: &Call<'_>, dims: Vec<u64>) -> Inferred {
    let zero_at = 7;
    Ok(vec![call.output(call.input(zero_at)?.element, dims)])
}

fn quantised_product(call: &Call<'_>) -> Inferred {
    let dims = product_dims(&call.input(0)?.dims, &call.input(3)?.dims)?;
    quantised(call, dims)
}

/// Bytes, their step and their zero point.
fn dynamic_quantise(call: &Call<'_>) -> Inferred {
    let dims = call.input(0)?.dims.clone();
    Ok(vec![
        call.output(ElementType::Uint8, dims),
        call.output(ElementType::Float32, Vec::new()),
        call.output(ElementType::Uint8, Vec::new()),
    ])
}

fn conv_transpose(call: &Call<'_>) -> Inferred {
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let ([batch, channels, lengths @ ..], [from, to, kernel @ ..]) = (&x.dims[..], &weight.dims[..]) else {
        return Err(format!("{:?} over {:?}", weight.dims, x.dims));
    };
    if from != channels {
        return Err(format!("{from} × {to} weights over {channels} channels"));
    }
    let groups = u64::try_from(call.int("group", 1)).ok().filter(|groups| *groups > 0).ok_or("no groups")?;
    let kernel: Vec<i64> = kernel.iter().map(|length| signed(*length)).collect();
    let windows = windows(call, &kernel, lengths.len())?;
    let extra = attribute_ints(call.node, "output_padding");
    let given = attribute_ints(call.node, "output_shape");
    let same =
        call.node.attribute.iter().any(|attribute| attribute.name == "auto_pad" && attribute.s.starts_with(b"SAME"));
    let length = |(index, (length, window)): (usize, (&u64, &Window))| {
        if let Some(given) = given.and_then(|given| given.get(index)) {
            return dim(i128::from(*given));
        }
        let length = i128::from(*length);
        if same {
            return dim(length * window.stride);
        }
        let extra = i128::from(extra.and_then(|extra| extra.get(index)).copied().unwrap_or(0));
        let reach = window.dilation * (window.kernel - 1) + 1;
        dim(window.stride * (length - 1) + extra + reach - window.before - window.after)
    };
    let lengths = lengths.iter().zip(&windows).enumerate().map(length).collect::<Result<Vec<_>, _>>()?;
    call.like([&[*batch, to.saturating_mul(groups)], &lengths[..]].concat())
}

fn pool(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let [batch, channels, lengths @ ..] = &x.dims[..] else { return Err(format!("{:?} cannot be pooled", x.dims)) };
    let kernel = attribute_ints(call.node, "kernel_shape").ok_or("it has no kernel_shape")?;
    let windows = windows(call, kernel, lengths.len())?;
    let dims = [&[*batch, *channels], &slide(call, lengths, &windows)?[..]].concat();
    Ok(vec![call.output(x.element, dims.clone()), call.output(ElementType::Int64, dims)])
}

fn global_pool(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    call.like(x.dims.iter().enumerate().map(|(index, length)| if index < 2 { *length } else { 1 }).collect())
}

fn mat_mul(call: &Call<'_>) -> Inferred {
    let dims = product_dims(&call.input(0)?.dims, &call.input(1)?.dims)?;
    let element = if call.operator() == "MatMulInteger" { ElementType::Int32 } else { call.input(0)?.element };
    Ok(vec![call.output(element, dims)])
}

/// Dimensions of the product of two tensors, by the rules of `NumPy`.
pub(super) fn product_dims(a: &[u64], b: &[u64]) -> Result<Vec<u64>, String> {
    let fail = || format!("{a:?} times {b:?}");
    let (a_outer, a_rows, a_inner) = match a {
        [] => return Err(fail()),
        [inner] => (&[][..], None, *inner),
        [outer @ .., rows, inner] => (outer, Some(*rows), *inner),
    };
    let (b_outer, b_inner, b_columns) = match b {
        [] => return Err(fail()),
        [inner] => (&[][..], *inner, None),
        [outer @ .., inner, columns] => (outer, *inner, Some(*columns)),
    };
    if a_inner != b_inner {
        return Err(fail());
    }
    let mut dims = broadcast(a_outer, b_outer)?;
    dims.extend(a_rows.into_iter().chain(b_columns));
    Ok(dims)
}

fn gemm(call: &Call<'_>) -> Inferred {
    let oriented = |index: usize, transposed: &str| match call.input(index)?.dims[..] {
        [rows, columns] if call.int(transposed, 0) != 0 => Ok((columns, rows)),
        [rows, columns] => Ok((rows, columns)),
        ref other => Err(format!("input {index} is {other:?}, not a matrix")),
    };
    let ((rows, inner), (inner_b, columns)) = (oriented(0, "transA")?, oriented(1, "transB")?);
    if inner != inner_b {
        return Err(format!("[{rows}, {inner}] times [{inner_b}, {columns}]"));
    }
    call.like(vec![rows, columns])
}

/// ONNX's own fused attention (operator set 23): queries' dimensions with the values' width.
fn attention(call: &Call<'_>) -> Inferred {
    let (q, v) = (call.input(0)?, call.input(2)?);
    let dims = match (&q.dims[..], &v.dims[..]) {
        ([batch, heads, length, _], [_, _, _, width]) => vec![*batch, *heads, *length, *width],
        ([batch, length, _], [_, _, width]) => {
            let (q_heads, kv_heads) = (call.int("q_num_heads", 1), call.int("kv_num_heads", 1));
            let width = i128::from(*width) * i128::from(q_heads) / i128::from(kv_heads.max(1));
            vec![*batch, *length, dim(width)?]
        }
        _ => return Err(format!("queries {:?}, values {:?}", q.dims, v.dims)),
    };
    call.like(dims)
}

fn reduce(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let rank = x.dims.len();
    let axes = call.ints_or_attribute(1, "axes")?.unwrap_or(&[]);
    let axes = axes.iter().map(|axis| wrap_axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    if axes.is_empty() && call.int("noop_with_empty_axes", 0) != 0 {
        return call.like(x.dims.clone());
    }
    call.like(without(&x.dims, &axes, call.int("keepdims", 1) != 0))
}

/// `dims` with `axes` (all, if there are none) shrunk to 1 or taken away.
fn without(dims: &[u64], axes: &[usize], keeps: bool) -> Vec<u64> {
    let goes = |index: usize| axes.is_empty() || axes.contains(&index);
    let kept = dims.iter().enumerate().filter(|(index, _)| keeps || !goes(*index));
    kept.map(|(index, length)| if goes(index) { 1 } else { *length }).collect()
}

fn arg(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let axis = call.axis(0, x.dims.len())?;
    Ok(vec![call.output(ElementType::Int64, without(&x.dims, &[axis], call.int("keepdims", 1) != 0))])
}

fn top_k(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let axis = call.axis(-1, x.dims.len())?;
    let k = call.ints(1)?.first().copied().ok_or("k is empty")?;
    let mut dims = x.dims.clone();
    *dims.get_mut(axis).ok_or("a scalar has no largest elements")? = dim(i128::from(k))?;
    Ok(vec![call.output(x.element, dims.clone()), call.output(ElementType::Int64, dims)])
}

/// With the sizes given, or scales that are constants.
fn resize(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    // `Upsample` and the first `Resize` have no region of interest before the scales.
    let scales_at = if call.inputs.len() <= 2 { 1 } else { 2 };
    if let Some(sizes) = call.optional(3) {
        let sizes = sizes.ints.as_deref().ok_or("its sizes depend on the content of the inputs")?;
        return call.like(sizes.iter().map(|length| dim(i128::from(*length))).collect::<Result<_, _>>()?);
    }
    let scales = call.optional(scales_at).and_then(|scales| scales.floats.as_deref());
    match scales {
        Some(scales) if scales.len() == x.dims.len() => call.like(x.dims.iter().zip(scales).map(scaled).collect()),
        Some(scales) => Err(format!("{} scales for {} dimensions", scales.len(), x.dims.len())),
        None => Err("it is given by scales that are no constants".to_owned()),
    }
}

/// A length times a scale, rounded down.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a negative scale gives 0, as it should")]
fn scaled((length, scale): (&u64, &f32)) -> u64 {
    (*length as f64 * f64::from(*scale)).floor() as u64
}

fn one_hot(call: &Call<'_>) -> Inferred {
    let (indices, values) = (call.input(0)?, call.input(2)?);
    let depth = dim(i128::from(call.ints(1)?.first().copied().ok_or("depth is empty")?))?;
    let rank = indices.dims.len() + 1;
    let axis = call.axis(-1, rank)?;
    let mut dims = indices.dims.clone();
    dims.insert(axis.min(indices.dims.len()), depth);
    Ok(vec![call.output(values.element, dims)])
}
