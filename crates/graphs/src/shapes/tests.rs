use super::*;
use crate::proto::AttributeProto;

/// A value that depends on the inputs.
fn float(dims: &[u64]) -> Fact {
    Fact::activation(ElementType::Float32, dims.to_vec())
}

/// Known integers.
fn known(values: &[i64]) -> Fact {
    Fact::shape_like(values.to_vec())
}

fn attributes(ints: &[(&str, &[i64])]) -> Vec<AttributeProto> {
    ints.iter()
        .map(|(name, values)| AttributeProto {
            name: (*name).to_owned(),
            i: values.first().copied(),
            ints: values.to_vec(),
            ..AttributeProto::default()
        })
        .collect()
}

/// Infers one node, its domain before the last dot; attributes serve as one integer or as a list.
fn run(operator: &str, inputs: &[Fact], ints: &[(&str, &[i64])], outputs: usize) -> Result<Vec<Fact>, GraphError> {
    let name = |prefix: &str, index: usize| format!("{prefix}{index}");
    let (domain, operator) = operator.rsplit_once('.').unwrap_or(("", operator));
    let node = NodeProto {
        input: (0..inputs.len()).map(|index| name("in", index)).collect(),
        output: (0..outputs).map(|index| name("out", index)).collect(),
        name: "node".to_owned(),
        op_type: operator.to_owned(),
        attribute: attributes(ints),
        domain: domain.to_owned(),
    };
    let facts = inputs.iter().enumerate().map(|(index, fact)| (name("in", index), fact.clone())).collect();
    let shape = Shape { batch_size: 1, sequence_length: None, image_size: None };
    let graph = GraphProto { node: vec![node], ..GraphProto::default() };
    let facts = infer(&graph, &shape, facts)?;
    Ok((0..outputs).map(|index| facts[&name("out", index)].clone()).collect())
}

fn check(operator: &str, inputs: &[Fact], ints: &[(&str, &[i64])], expected: &[u64]) {
    let found = run(operator, inputs, ints, 1).unwrap_or_else(|error| panic!("{operator}: {error}"));
    assert_eq!(found[0].dims, expected, "{operator} {ints:?}");
}

fn check_ints(operator: &str, inputs: &[Fact], ints: &[(&str, &[i64])], expected: &[i64]) {
    let found = run(operator, inputs, ints, 1).unwrap_or_else(|error| panic!("{operator}: {error}"));
    assert_eq!(found[0].ints.as_deref(), Some(expected), "{operator} {ints:?}");
    assert!(found[0].constant, "{operator} of constants is one");
}

fn check_error(operator: &str, inputs: &[Fact], ints: &[(&str, &[i64])], expected: &str) {
    let error = run(operator, inputs, ints, 1).expect_err("a misfit");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn convolutions_and_pools() {
    let (image, weight) = (float(&[2, 3, 224, 224]), float(&[64, 3, 7, 7]));
    let stem: [(&str, &[i64]); 2] = [("strides", &[2, 2]), ("pads", &[3, 3, 3, 3])];
    check("Conv", &[image.clone(), weight.clone()], &stem, &[2, 64, 112, 112]);
    check("Conv", &[image, weight], &[("dilations", &[2, 2])], &[2, 64, 212, 212]);
    check(
        "Conv",
        &[float(&[1, 80, 3_000]), float(&[384, 80, 3])],
        &[("strides", &[2]), ("pads", &[1, 1])],
        &[1, 384, 1_500],
    );
    check(
        "ConvTranspose",
        &[float(&[1, 8, 10, 10]), float(&[8, 4, 4, 4])],
        &[("strides", &[2, 2]), ("pads", &[1; 4])],
        &[1, 4, 20, 20],
    );
    let pool = |ceil: i64| [("kernel_shape", vec![3, 3]), ("strides", vec![2, 2]), ("ceil_mode", vec![ceil])];
    for (ceil, expected) in [(0, 6), (1, 7)] {
        let pool = pool(ceil);
        let attributes: Vec<(&str, &[i64])> = pool.iter().map(|(name, values)| (*name, values.as_slice())).collect();
        check("MaxPool", &[float(&[1, 1, 14, 14])], &attributes, &[1, 1, expected, expected]);
    }
    check("GlobalAveragePool", &[float(&[2, 5, 7, 7])], &[], &[2, 5, 1, 1]);
}

#[test]
fn products() {
    check("MatMul", &[float(&[2, 12, 5, 8]), float(&[8, 3])], &[], &[2, 12, 5, 3]);
    check("MatMul", &[float(&[4, 1, 5, 8]), float(&[3, 8, 2])], &[], &[4, 3, 5, 2]);
    check("MatMul", &[float(&[8]), float(&[3, 8, 2])], &[], &[3, 2]);
    check("Gemm", &[float(&[8, 2]), float(&[3, 8])], &[("transA", &[1]), ("transB", &[1])], &[2, 3]);
    check("Attention", &[float(&[2, 8, 5, 64]), float(&[2, 8, 9, 64]), float(&[2, 8, 9, 32])], &[], &[2, 8, 5, 32]);
}

#[test]
fn layouts() {
    let x = float(&[2, 3, 4, 5]);
    let check = |operator, second: &[Fact], ints: &[(&str, &[i64])], expected: &[u64]| {
        check(operator, &[std::slice::from_ref(&x), second].concat(), ints, expected);
    };
    check("Reshape", &[known(&[0, -1, 5])], &[], &[2, 12, 5]);
    check("Flatten", &[], &[("axis", &[2])], &[6, 20]);
    check("Unsqueeze", &[known(&[0, -1])], &[], &[1, 2, 3, 4, 5, 1]);
    check("Unsqueeze", &[], &[("axes", &[1])], &[2, 1, 3, 4, 5]);
    check("Transpose", &[], &[("perm", &[0, 2, 3, 1])], &[2, 4, 5, 3]);
    check("Transpose", &[], &[], &[5, 4, 3, 2]);
    check("Expand", &[known(&[7, 1, 1, 4, 1])], &[], &[7, 2, 3, 4, 5]);
    check("Tile", &[known(&[1, 2, 1, 3])], &[], &[2, 6, 4, 15]);
    check("Concat", &[float(&[2, 1, 4, 5])], &[("axis", &[1])], &[2, 4, 4, 5]);
    check("Slice", &[known(&[1, 0]), known(&[i64::MAX, -1]), known(&[-1, 1])], &[], &[2, 2, 4, 4]);
    check("Slice", &[known(&[-1]), known(&[i64::MIN]), known(&[2]), known(&[-2])], &[], &[2, 3, 2, 5]);
    check("Gather", &[Fact::activation(ElementType::Int64, vec![7, 8])], &[("axis", &[1])], &[2, 7, 8, 4, 5]);
    check("GatherND", &[Fact::activation(ElementType::Int64, vec![7, 2])], &[], &[7, 4, 5]);
    check("Pad", &[known(&[0, 0, 1, 2, 0, 0, 1, 2])], &[], &[2, 3, 6, 9]);
    check("ReduceMean", &[known(&[-1])], &[("keepdims", &[0])], &[2, 3, 4]);
    check("ReduceMean", &[], &[("axes", &[2, 3])], &[2, 3, 1, 1]);
    check("ReduceMax", &[], &[("keepdims", &[0])], &[]);
    check("ArgMax", &[], &[("axis", &[1]), ("keepdims", &[0])], &[2, 4, 5]);
    let parts = run("Split", &[x.clone(), known(&[1, 4])], &[("axis", &[-1])], 2).expect("parts");
    assert_eq!([&parts[0].dims, &parts[1].dims], [&[2, 3, 4, 1], &[2, 3, 4, 4]]);
    let parts = run("Split", &[float(&[7])], &[], 3).expect("parts");
    assert_eq!(parts.iter().map(|part| part.dims[0]).collect::<Vec<_>>(), [3, 3, 1]);
}

#[test]
fn normalisations() {
    check("BatchNormalization", &[float(&[2, 3, 4]), float(&[3])], &[], &[2, 3, 4]);
    let outputs = run("LayerNormalization", &[float(&[2, 3, 4]), float(&[3, 4])], &[("axis", &[1])], 3).expect("fits");
    assert_eq!([&outputs[0].dims[..], &outputs[1].dims, &outputs[2].dims], [&[2, 3, 4], &[2, 1, 1], &[2, 1, 1]]);
    let start = "failed to infer the output of node `node`";
    for operator in ["BatchNormalization", "LayerNormalization"] {
        assert!(run(operator, &[float(&[2, 3, 4]), float(&[5])], &[], 1).is_err(), "{operator}");
    }
    let expected = format!("{start} (BatchNormalization): scale [4] does not fit [2, 3, 4]");
    check_error("BatchNormalization", &[float(&[2, 3, 4]), float(&[4])], &[], &expected);
}

#[test]
fn shapes_are_followed_by_value() {
    check_ints("Shape", &[float(&[2, 3, 4])], &[], &[2, 3, 4]);
    check_ints("Shape", &[float(&[2, 3, 4])], &[("start", &[-2])], &[3, 4]);
    check_ints("Size", &[float(&[2, 3, 4])], &[], &[24]);
    check_ints("Gather", &[known(&[7, 8, 9]), known(&[-1, 0])], &[], &[9, 7]);
    check_ints("Concat", &[known(&[1, 2]), known(&[3])], &[("axis", &[0])], &[1, 2, 3]);
    check_ints("Slice", &[known(&[1, 2, 3, 4]), known(&[1]), known(&[3])], &[], &[2, 3]);
    check_ints(
        "Slice",
        &[known(&[1, 2, 3, 4]), known(&[-1]), known(&[i64::MIN]), known(&[0]), known(&[-1])],
        &[],
        &[4, 3, 2, 1],
    );
    check_ints("Mul", &[known(&[2, 3]), known(&[4])], &[], &[8, 12]);
    check_ints("Div", &[known(&[7]), known(&[2])], &[], &[3]);
    check_ints("Equal", &[known(&[-1, 2]), known(&[-1])], &[], &[1, 0]);
    check_ints("Where", &[known(&[1, 0]), known(&[5, 6]), known(&[7, 8])], &[], &[5, 8]);
    check_ints("Range", &[known(&[2]), known(&[9]), known(&[3])], &[], &[2, 5, 8]);
    check_ints("Range", &[known(&[3]), known(&[0]), known(&[-1])], &[], &[3, 2, 1]);
    check_ints("Cast", &[known(&[0, 5])], &[("to", &[9])], &[0, 1]);
    check_ints("Unsqueeze", &[Fact { dims: Vec::new(), ..known(&[6]) }, known(&[0])], &[], &[6]);
}

#[test]
fn misfits_are_named() {
    let (a, b) = (float(&[2, 3]), float(&[4, 5]));
    let start = "failed to infer the output of node `node`";
    let ab = [a.clone(), b.clone()];
    check_error("MatMul", &ab, &[], &format!("{start} (MatMul): [2, 3] times [4, 5]"));
    check_error("Add", &ab, &[], &format!("{start} (Add): [2, 3] and [4, 5] do not fit: 2 meets 4"));
    check_error(
        "Concat",
        &ab,
        &[("axis", &[0])],
        &format!("{start} (Concat): [4, 5] cannot follow [2, 3] along axis 0"),
    );
    check_error(
        "Reshape",
        &[a.clone(), known(&[4, 2])],
        &[],
        &format!("{start} (Reshape): [2, 3] cannot become [4, 2]"),
    );
    check_error(
        "Reshape",
        &[a.clone(), b],
        &[],
        &format!("{start} (Reshape): input 1 depends on the content of the inputs"),
    );
    check_error("Softmax", &[], &[], &format!("{start} (Softmax): input 0 is missing"));
    check_error(
        "Expand",
        &[float(&[1]), known(&[1 << 40, 1 << 40])],
        &[],
        &format!("{start} (Expand): output [1099511627776, 1099511627776] is larger than any memory"),
    );
    check_error(
        "Transpose",
        &[a],
        &[("perm", &[0])],
        &format!("{start} (Transpose): [0] does not permute 2 dimensions"),
    );
}

#[test]
fn unknown_operator_needs_its_outputs_declared() {
    let error = run("Frobnicate", &[float(&[2])], &[], 1).expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "operator `Frobnicate` of node `node` is unknown and the file does not give its output shapes"
    );
    let node = NodeProto {
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        op_type: "Frobnicate".to_owned(),
        domain: "com.example".to_owned(),
        ..NodeProto::default()
    };
    let dims = [crate::model::Dim::symbol("batch"), crate::model::Dim::Fixed(9)];
    let graph = GraphProto {
        node: vec![node],
        value_info: vec![ValueInfoProto::tensor("y", ElementType::Float16, &dims)],
        ..GraphProto::default()
    };
    let shape = Shape { batch_size: 3, sequence_length: None, image_size: None };
    let infer = |graph: &GraphProto| super::infer(graph, &shape, Facts::from([("x".to_owned(), float(&[3, 2]))]));
    assert_eq!(infer(&graph).expect("declared")["y"], Fact::activation(ElementType::Float16, vec![3, 9]));
    let error = infer(&GraphProto { value_info: Vec::new(), ..graph }).expect_err("undeclared").to_string();
    assert!(error.contains("`com.example.Frobnicate` of node `y`"), "{error}");
}

#[test]
fn integer_products_have_the_dimensions_of_float_ones() {
    let x = float(&[2, 7, 64]);
    let found = run("DynamicQuantizeLinear", std::slice::from_ref(&x), &[], 3).expect("known");
    let described: Vec<_> = found.iter().map(|fact| (fact.element, fact.dims.clone())).collect();
    let scalar = Vec::new;
    assert_eq!(
        described,
        [(ElementType::Uint8, vec![2, 7, 64]), (ElementType::Float32, scalar()), (ElementType::Uint8, scalar())]
    );
    let product = run("MatMulInteger", &[x.clone(), float(&[64, 10])], &[], 1).expect("known");
    assert_eq!((product[0].element, product[0].dims.as_slice()), (ElementType::Int32, &[2, 7, 10][..]));
    check("ConvInteger", &[float(&[1, 3, 8, 8]), float(&[4, 3, 3, 3])], &[], &[1, 4, 6, 6]);
    let step = float(&[]);
    let (image, weight) = (float(&[1, 3, 8, 8]), float(&[4, 3, 1, 1]));
    let inputs = [&image, &step, &step, &weight, &step, &step, &step, &step].map(Fact::clone);
    check("QLinearConv", &inputs, &[], &[1, 4, 8, 8]);
    let packed = float(&[10, 2, 16]);
    let blocks: [(&str, &[i64]); 2] = [("K", &[64]), ("N", &[10])];
    check("com.microsoft.MatMulNBits", &[x.clone(), packed.clone()], &blocks, &[2, 7, 10]);
    check_error(
        "com.microsoft.MatMulNBits",
        &[float(&[2, 7, 63]), packed],
        &blocks,
        "failed to infer the output of node `node` (com.microsoft.MatMulNBits): 64 × 10 weights over [2, 7, 63]",
    );
}

#[test]
fn fused_operators_of_the_runtime_are_known() {
    let x = float(&[2, 7, 64]);
    check("com.microsoft.FastGelu", std::slice::from_ref(&x), &[], &[2, 7, 64]);
    check("com.microsoft.FusedMatMul", &[x.clone(), float(&[2, 9, 64])], &[("transB", &[1])], &[2, 7, 9]);
    check("com.microsoft.Attention", &[x.clone(), float(&[64, 192])], &[("num_heads", &[4])], &[2, 7, 64]);
    let sums = run("com.microsoft.SkipLayerNormalization", &[x.clone(), x], &[], 4).expect("known");
    assert_eq!(sums[3].dims, [2, 7, 64]);
    let error = run("com.microsoft.Unheard", &[float(&[1])], &[], 1).expect_err("unknown");
    assert!(matches!(error, GraphError::UnknownOperator { .. }), "{error}");
}

#[test]
fn sizes_follow_constant_scales() {
    let scales = |values: &[f32]| Fact { floats: Some(values.to_vec()), ..known(&vec![0; values.len()]) };
    let (image, none) = (float(&[1, 8, 7, 7]), known(&[]));
    check("Resize", &[image.clone(), none.clone(), scales(&[1.0, 1.0, 2.0, 1.5])], &[], &[1, 8, 14, 10]);
    check("Upsample", &[image.clone(), scales(&[1.0, 1.0, 2.0, 2.0])], &[], &[1, 8, 14, 14]);
    let reason = "failed to infer the output of node `node` (Resize): it is given by scales that are no constants";
    check_error("Resize", &[image, none, float(&[4])], &[], reason);
}
