use std::io::Write;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;
use crate::{
    builder::{Activation, GraphBuilder, Heads, Mask, int},
    proto::{OperatorSetIdProto, StringStringEntryProto},
};

const SHAPE: Shape = Shape { batch_size: 2, sequence_length: Some(5), image_size: None };

/// A small network that has a bit of everything, and its bytes; one weight is large enough to be skipped.
fn small_file() -> Vec<u8> {
    let mut g = GraphBuilder::new("small");
    let tokens = g.input("tokens", ElementType::Int64, &[Dim::symbol("batch"), Dim::symbol("sequence")]);
    let table = g.table("table", &[3_000, 8]);
    let hidden = g.node("Gather", &[&table, &tokens], Vec::new());
    let positions = g.table("positions", &[7, 8]);
    let positions = g.first_rows(&positions, &tokens);
    let hidden = g.node("Add", &[&hidden, &positions], Vec::new());
    let mixed = g.attention([&hidden, &hidden, &hidden], Heads { count: 2, width: 4 }, Mask::Everything);
    let mixed = g.layer_norm("norm", &mixed, 8, 1e-5);
    let inner = g.linear("inner", &mixed, 8, 12, true);
    let inner = g.activation(&inner, Activation::GeluErf);
    let parts = g.nodes("Split", &[&inner], vec![int("axis", 2)], 2);
    let sum = g.node("Mul", &[&parts[0], &parts[1]], Vec::new());
    g.output("out", &sum, &[Dim::symbol("batch"), Dim::symbol("sequence"), Dim::Fixed(6)]);
    let mut bytes = Vec::new();
    g.finish().write(&mut bytes).expect("a Vec takes all");
    bytes
}

fn read(bytes: &[u8]) -> Result<OnnxModel, GraphError> {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    OnnxModel::read(file.path())
}

/// Whether reading `bytes` fails as it must for what is no model.
fn is_refused(bytes: &[u8]) -> bool {
    matches!(read(bytes), Err(GraphError::NotOnnx { .. }))
}

#[test]
fn small_model_is_read_without_its_large_weights() {
    let bytes = small_file();
    assert!(bytes.len() > 3_000 * 8 * 4, "the table must exceed what the reader keeps");
    let model = read(&bytes).expect("a model");
    assert_eq!(model.parameters(), 3_000 * 8 + 7 * 8 + 2 * 8 + 8 * 12 + 12);
    assert_eq!(model.opset(), 17);
    let facts = model.facts(&SHAPE).expect("facts");
    assert_eq!(facts["out"].dims, [2, 5, 6]);
    let inputs = model.concrete_inputs(&SHAPE).expect("inputs");
    let tokens =
        ConcreteInput { name: "tokens".to_owned(), element: ElementType::Int64, dims: vec![2, 5], value_max: 3_000 };
    assert_eq!(inputs, [tokens]);
}

#[test]
fn longest_sequence_is_found_where_positions_end() {
    let error = read(&small_file()).expect("a model").costs(&Shape { sequence_length: Some(1_000), ..SHAPE });
    let text = error.expect_err("there are 7 positions").to_string();
    assert_eq!(text, "sequence length 1000 does not fit the model: at most 7 is possible");
}

#[test]
fn what_the_shape_says_in_vain_is_an_error() {
    let model = read(&small_file()).expect("a model");
    let check = |shape: Shape, expected: &str| {
        assert_eq!(model.costs(&shape).expect_err("a misfit").to_string(), expected);
        assert_eq!(model.concrete_inputs(&shape).expect_err("a misfit").to_string(), expected);
    };
    check(
        Shape { image_size: Some(224), ..SHAPE },
        "image size 224 does not fit the model: its inputs have no image size to set",
    );
    check(Shape { batch_size: 0, ..SHAPE }, "batch size 0 does not fit the model: at least 1 is possible");
    check(
        Shape { sequence_length: None, ..SHAPE },
        "the model needs a sequence length for input `tokens`, and none is given",
    );
}

#[test]
fn empty_and_foreign_files_are_refused_with_the_reason() {
    let check = |bytes: &[u8], expected: &str| {
        let Err(GraphError::NotOnnx { reason, .. }) = read(bytes) else { panic!("{bytes:?} was accepted") };
        assert_eq!(reason, expected);
    };
    check(b"", "the file is empty");
    check(b"{\"not\": \"onnx\"}", "wire type 3 at byte 1");
    let metadata = StringStringEntryProto { key: "a".to_owned(), value: "b".to_owned() };
    let no_graph = ModelProto { ir_version: 8, metadata_props: vec![metadata], ..ModelProto::default() };
    check(&prost::Message::encode_to_vec(&no_graph), "it has no graph");
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let empty = ModelProto { graph: Some(GraphProto::default()), opset_import, ..ModelProto::default() };
    check(&prost::Message::encode_to_vec(&empty), "its graph computes nothing");
}

#[test]
fn a_missing_file_is_no_format_error() {
    let error = OnnxModel::read(Path::new("/nonexistent/model.onnx")).expect_err("no file");
    assert!(matches!(error, GraphError::Io { action: "open", .. }), "{error:?}");
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(is_refused(&bytes));
    }

    #[test]
    fn truncated_files_are_refused(share in 0.0..1.0_f64) {
        let bytes = small_file();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let length = (bytes.len() as f64 * share) as usize;
        prop_assert!(is_refused(&bytes[..length]));
    }

    #[test]
    fn flipped_bytes_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = small_file();
        // The structure is what counts: most of the file is the table.
        let start = bytes.windows(5).position(|window| window == b"table").expect("the table's name");
        let structure = bytes.len().min(start + 4_000);
        for (index, byte) in flips {
            bytes[index.index(structure)] ^= byte;
        }
        if let Ok(model) = read(&bytes)
            && let Ok(costs) = model.costs(&SHAPE)
        {
            prop_assert_eq!(costs.parameters, model.parameters());
            prop_assert!(model.concrete_inputs(&SHAPE).is_ok());
        }
    }
}
