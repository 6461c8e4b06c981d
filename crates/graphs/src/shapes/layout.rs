//! Operators that move, cut or describe data.

use crate::{
    model::ElementType,
    shapes::{
        Call, FOLDED_ELEMENTS_MAX, Fact, Inferred, attribute_ints, dim, elements, elementwise::broadcast, signed,
        wrap_axis,
    },
};

pub(super) fn infer(call: &Call<'_>) -> Option<Inferred> {
    let outputs = match call.operator() {
        "Constant" => constant(call),
        "ConstantOfShape" => constant_of_shape(call),
        "Shape" => shape(call),
        "Size" => size(call),
        "Range" => range(call),
        "Reshape" => reshape(call),
        "Flatten" => flatten(call),
        "Squeeze" => squeeze(call),
        "Unsqueeze" => unsqueeze(call),
        "Transpose" => transpose(call),
        "Expand" => expand(call),
        "Tile" => tile(call),
        "Concat" => concat(call),
        "Split" => split(call),
        "Slice" => slice(call),
        "Gather" => gather(call),
        "GatherElements" => call.input(1).and_then(|indices| call.like(indices.dims.clone())),
        "GatherND" => gather_nd(call),
        "ScatterND" | "ScatterElements" => call.input(0).and_then(|x| call.like(x.dims.clone())),
        "Pad" => pad(call),
        "DepthToSpace" => block(call, true),
        "SpaceToDepth" => block(call, false),
        _ => return None,
    };
    Some(outputs)
}

fn constant(call: &Call<'_>) -> Inferred {
    let attribute = call.node.attribute.first().ok_or("it has no value")?;
    let float = |dims| Fact { element: ElementType::Float32, dims, ints: None, floats: None, constant: true };
    let fact = match attribute.name.as_str() {
        "value" => Fact::of_tensor(attribute.t.as_ref().ok_or("it has no value")?)?,
        "value_int" => Fact { dims: Vec::new(), ..Fact::shape_like(vec![attribute.i.unwrap_or(0)]) },
        "value_ints" => Fact::shape_like(attribute.ints.clone()),
        "value_float" => float(Vec::new()),
        "value_floats" => float(vec![attribute.floats.len() as u64]),
        other => return Err(format!("a constant given as `{other}`")),
    };
    Ok(vec![fact])
}

fn constant_of_shape(call: &Call<'_>) -> Inferred {
    let dims = call.ints(0)?.iter().map(|length| dim(i128::from(*length))).collect::<Result<Vec<_>, _>>()?;
    let value = match call.node.attribute.iter().find_map(|attribute| attribute.t.as_ref()) {
        Some(tensor) => Fact::of_tensor(tensor)?,
        None => Fact { element: ElementType::Float32, dims: Vec::new(), ints: None, floats: None, constant: true },
    };
    let count = elements(&dims).filter(|count| *count <= FOLDED_ELEMENTS_MAX);
    let ints = count.and_then(|count| {
        let value = *value.ints.as_ref()?.first()?;
        Some(vec![value; usize::try_from(count).ok()?])
    });
    Ok(vec![Fact { element: value.element, dims, ints, floats: None, constant: true }])
}

fn shape(call: &Call<'_>) -> Inferred {
    let dims = &call.input(0)?.dims;
    let rank = signed(dims.len() as u64);
    let clamp = |index: i64| {
        usize::try_from(if index < 0 { index.saturating_add(rank) } else { index }.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (clamp(call.int("start", 0)), clamp(call.int("end", rank)));
    Ok(vec![Fact::shape_like(dims.get(start..end).unwrap_or(&[]).iter().map(|length| signed(*length)).collect())])
}

fn size(call: &Call<'_>) -> Inferred {
    let count = signed(call.input(0)?.elements());
    Ok(vec![Fact { dims: Vec::new(), ..Fact::shape_like(vec![count]) }])
}

fn range(call: &Call<'_>) -> Inferred {
    let scalar = |index| call.ints(index)?.first().copied().ok_or_else(|| format!("input {index} is empty"));
    let (start, limit, step) = (i128::from(scalar(0)?), i128::from(scalar(1)?), i128::from(scalar(2)?));
    if step == 0 {
        return Err("a step of 0".to_owned());
    }
    let span = limit - start;
    // Rounded up in the direction of the step.
    let count = dim(if span.signum() == step.signum() { (span.abs() + step.abs() - 1) / step.abs() } else { 0 })?;
    let ints = (count <= FOLDED_ELEMENTS_MAX)
        .then(|| (0..i128::from(count)).map(|index| i64::try_from(start + index * step).ok()).collect())
        .flatten();
    Ok(vec![Fact { element: call.input(0)?.element, dims: vec![count], ints, floats: None, constant: true }])
}

fn reshape(call: &Call<'_>) -> Inferred {
    let (x, wanted) = (call.input(0)?, call.ints(1)?);
    let keeps_zero = call.int("allowzero", 0) == 0;
    let mut dims = Vec::with_capacity(wanted.len());
    for (index, length) in wanted.iter().enumerate() {
        dims.push(match length {
            0 if keeps_zero => *x.dims.get(index).ok_or("a 0 beyond the input's dimensions")?,
            -1 => 1,
            length => dim(i128::from(*length))?,
        });
    }
    let known = elements(&dims).ok_or("it is larger than any memory")?;
    if let Some(free) = wanted.iter().position(|length| *length == -1) {
        dims[free] = x.elements().checked_div(known).unwrap_or(0);
    }
    if elements(&dims) != Some(x.elements()) {
        return Err(format!("{:?} cannot become {wanted:?}", x.dims));
    }
    Ok(vec![x.with_dims(dims)])
}

fn flatten(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let rank = x.dims.len();
    let axis = call.int("axis", 1);
    let axis = if axis == signed(rank as u64) { rank } else { wrap_axis(axis, rank)? };
    let (outer, inner) = x.dims.split_at(axis.min(rank));
    let product = |dims| elements(dims).ok_or_else(|| "it is larger than any memory".to_owned());
    Ok(vec![x.with_dims(vec![product(outer)?, product(inner)?])])
}

fn squeeze(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let rank = x.dims.len();
    let axes = call.ints_or_attribute(1, "axes")?;
    let axes = axes.map(|axes| axes.iter().map(|axis| wrap_axis(*axis, rank)).collect::<Result<Vec<_>, _>>());
    let axes = axes.transpose()?;
    let goes = |index: usize, length: u64| axes.as_ref().map_or(length == 1, |axes| axes.contains(&index));
    if let Some((index, length)) =
        x.dims.iter().enumerate().find(|(index, length)| goes(*index, **length) && **length != 1)
    {
        return Err(format!("dimension {index} is {length}, not 1"));
    }
    let dims = x.dims.iter().enumerate().filter(|(index, length)| !goes(*index, **length)).map(|(_, length)| *length);
    Ok(vec![x.with_dims(dims.collect())])
}

fn unsqueeze(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let axes = call.ints_or_attribute(1, "axes")?.ok_or("it has no axes")?;
    let rank = x.dims.len() + axes.len();
    let axes = axes.iter().map(|axis| wrap_axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut rest = x.dims.iter();
    let dims = (0..rank).map(|index| if axes.contains(&index) { Some(1) } else { rest.next().copied() });
    Ok(vec![x.with_dims(dims.collect::<Option<_>>().ok_or("the same axis twice")?)])
}

fn transpose(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let rank = x.dims.len();
    let dims = match attribute_ints(call.node, "perm") {
        Some(perm) if perm.len() == rank => {
            perm.iter().map(|axis| wrap_axis(*axis, rank).map(|axis| x.dims[axis])).collect::<Result<_, _>>()?
        }
        Some(perm) => return Err(format!("{perm:?} does not permute {rank} dimensions")),
        None => x.dims.iter().rev().copied().collect(),
    };
    // Order is lost in more than one dimension, so values are not followed further.
    if rank <= 1 { Ok(vec![x.clone()]) } else { call.like(dims) }
}

fn expand(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let wanted = call.ints(1)?.iter().map(|length| dim(i128::from(*length))).collect::<Result<Vec<_>, _>>()?;
    let dims = broadcast(&x.dims, &wanted)?;
    let count = elements(&dims).filter(|count| *count <= FOLDED_ELEMENTS_MAX);
    let ints = match (x.ints.as_deref(), count.and_then(|count| usize::try_from(count).ok())) {
        (Some([single]), Some(count)) => Some(vec![*single; count]),
        _ => None,
    };
    Ok(vec![Fact { ints, ..call.output(x.element, dims) }])
}

fn tile(call: &Call<'_>) -> Inferred {
    let (x, repeats) = (call.input(0)?, call.ints(1)?);
    if repeats.len() != x.dims.len() {
        return Err(format!("{} repeats for {} dimensions", repeats.len(), x.dims.len()));
    }
    let dims = x.dims.iter().zip(repeats).map(|(length, times)| dim(i128::from(*length) * i128::from(*times)));
    call.like(dims.collect::<Result<_, _>>()?)
}

fn concat(call: &Call<'_>) -> Inferred {
    let first = call.input(0)?;
    let axis = call.axis(0, first.dims.len())?;
    let mut dims = first.dims.clone();
    for fact in call.present().skip(1) {
        let fits = fact.dims.len() == dims.len()
            && fact.dims.iter().zip(&dims).enumerate().all(|(index, (a, b))| index == axis || a == b);
        if !fits {
            return Err(format!("{:?} cannot follow {:?} along axis {axis}", fact.dims, first.dims));
        }
        let (Some(length), Some(more)) = (dims.get_mut(axis), fact.dims.get(axis)) else {
            return Err("scalars cannot be concatenated".to_owned());
        };
        *length = length.saturating_add(*more);
    }
    let ints = if dims.len() == 1 {
        call.present().map(|fact| fact.ints.clone()).collect::<Option<Vec<_>>>().map(|parts| parts.concat())
    } else {
        None
    };
    Ok(vec![Fact { ints, ..call.output(first.element, dims) }])
}

fn split(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let axis = call.axis(0, x.dims.len())?;
    let whole = *x.dims.get(axis).ok_or("a scalar cannot be split")?;
    let parts = if let Some(parts) = call.ints_or_attribute(1, "split")? {
        parts.iter().map(|length| dim(i128::from(*length))).collect::<Result<Vec<_>, _>>()?
    } else {
        let count = (call.node.output.len() as u64).max(1);
        let part = whole.div_ceil(count);
        (0..count).map(|index| part.min(whole.saturating_sub(index * part))).collect()
    };
    if parts.iter().copied().fold(0, u64::saturating_add) != whole || parts.len() != call.node.output.len() {
        return Err(format!("{whole} cannot be split into {parts:?}"));
    }
    let mut start = 0;
    let part = |length: u64| {
        let mut dims = x.dims.clone();
        dims[axis] = length;
        let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(start + length).unwrap_or(usize::MAX);
        start += length;
        let ints = if x.dims.len() == 1 {
            x.ints.as_ref().and_then(|ints| ints.get(range)).map(<[i64]>::to_vec)
        } else {
            None
        };
        Fact { ints, ..call.output(x.element, dims) }
    };
    Ok(parts.into_iter().map(part).collect())
}

fn slice(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let starts = call.ints_or_attribute(1, "starts")?.ok_or("it has no starts")?;
    let ends = call.ints_or_attribute(2, "ends")?.ok_or("it has no ends")?;
    let along = call.ints_or_attribute(3, "axes")?;
    let steps = call.optional(4).map(|_| call.ints(4)).transpose()?;
    let mut dims = x.dims.clone();
    let mut kept = x.ints.clone();
    for (index, (start, end)) in starts.iter().zip(ends).enumerate() {
        let given =
            along.map_or(Some(signed(index as u64)), |along| along.get(index).copied()).ok_or("too few axes")?;
        let axis = wrap_axis(given, dims.len())?;
        let step = steps.map_or(Some(1), |steps| steps.get(index).copied()).ok_or("too few steps")?;
        let length = *dims.get(axis).ok_or("a scalar cannot be sliced")?;
        let (first, count) = cut(length, *start, *end, step)?;
        dims[axis] = count;
        kept = kept.filter(|_| x.dims.len() == 1).and_then(|ints| {
            let at = |n: u64| i128::from(first) + i128::from(n) * i128::from(step);
            (0..count).map(|n| ints.get(usize::try_from(at(n)).ok()?).copied()).collect()
        });
    }
    Ok(vec![Fact { ints: kept, ..call.output(x.element, dims) }])
}

/// First index and number of elements that `start..end` with `step` takes of `length`.
fn cut(length: u64, start: i64, end: i64, step: i64) -> Result<(i64, u64), String> {
    let whole = signed(length);
    let wrap = |index: i64| if index < 0 { index.saturating_add(whole) } else { index };
    let (start, end) = match step {
        0 => return Err("a step of 0".to_owned()),
        1.. => (wrap(start).clamp(0, whole), wrap(end).clamp(0, whole)),
        _ => (wrap(start).clamp(0, (whole - 1).max(0)), wrap(end).clamp(-1, whole - 1)),
    };
    let span = i128::from(end - start) * i128::from(step.signum());
    let step = i128::from(step).abs();
    Ok((start, dim(((span + step - 1) / step).max(0))?))
}

fn gather(call: &Call<'_>) -> Inferred {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(0, x.dims.len())?;
    if x.dims.is_empty() {
        return Err("nothing can be gathered from a scalar".to_owned());
    }
    let dims = [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat();
    let ints = match (&x.ints, &indices.ints) {
        (Some(values), Some(indices)) if x.dims.len() == 1 => indices
            .iter()
            .map(|index| wrap_axis(*index, values.len()).ok().and_then(|index| values.get(index)).copied())
            .collect(),
        _ => None,
    };
    Ok(vec![Fact { ints, ..call.output(x.element, dims) }])
}

fn gather_nd(call: &Call<'_>) -> Inferred {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let batch = usize::try_from(call.int("batch_dims", 0)).map_err(|_| "negative batch_dims")?;
    let (depth, outer) = indices.dims.split_last().ok_or("indices without dimensions")?;
    let depth = usize::try_from(*depth).map_err(|_| "indices are too deep")?;
    let rest = x.dims.get(batch.saturating_add(depth)..).ok_or("indices are deeper than the tensor")?;
    call.like([outer, rest].concat())
}

fn pad(call: &Call<'_>) -> Inferred {
    let x = call.input(0)?;
    let pads = call.ints_or_attribute(1, "pads")?.ok_or("it has no pads")?;
    let rank = x.dims.len();
    let axes = match call.optional(3) {
        Some(_) => call.ints(3)?.iter().map(|axis| wrap_axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    let mut dims = x.dims.clone();
    for (index, axis) in axes.iter().enumerate() {
        let length = dims.get_mut(*axis).ok_or("a scalar cannot be padded")?;
        *length = dim(i128::from(*length) + i128::from(pads[index]) + i128::from(pads[index + axes.len()]))?;
    }
    call.like(dims)
}

fn block(call: &Call<'_>, to_space: bool) -> Inferred {
    let x = call.input(0)?;
    let size = u64::try_from(call.int("blocksize", 0)).ok().filter(|size| (1..=1 << 16).contains(size));
    let size = size.ok_or("an impossible block size")?;
    let [items, channels, height, width] = x.dims[..] else { return Err(format!("{:?} is not an image", x.dims)) };
    let dims = if to_space {
        vec![items, channels / (size * size), height.saturating_mul(size), width.saturating_mul(size)]
    } else {
        vec![items, channels.saturating_mul(size * size), height / size, width / size]
    };
    call.like(dims)
}
