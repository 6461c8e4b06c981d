use prost::Message;

use super::*;
use crate::{
    model::{OnnxModel, Shape},
    proto::ModelProto,
};

/// The zoo model's structure; no weights are made.
fn structure(name: &str) -> OnnxModel {
    OnnxModel::new(architecture(name).expect("a zoo model").structure()).expect("a whole model")
}

fn usual_shape(entry: &ZooEntry, batch_size: u32) -> Shape {
    let (sequence_length, image_size) = match entry.shape {
        ShapeInput::Sequence { default, .. } => (Some(default), None),
        ShapeInput::Image { default, .. } => (None, Some(default)),
        ShapeInput::AudioFrames { .. } => (None, None),
    };
    Shape { batch_size, sequence_length, image_size }
}

/// Multiply-accumulates of `layers` transformer layers over `length` positions: four projections and two inner ones,
/// then scores and their use.
fn transformer(layers: u64, length: u64, width: u64, inner: u64) -> u64 {
    layers * (length * (4 * width * width + 2 * width * inner) + 2 * length * length * width)
}

#[test]
fn every_entry_has_an_architecture_with_the_published_parameters() {
    for entry in zoo() {
        assert_eq!(structure(entry.name).parameters(), entry.published_parameters, "{}", entry.name);
    }
}

#[test]
fn whisper_encoder_is_what_the_published_total_leaves_beside_the_decoder() {
    let (width, tokens, positions) = (384, 51_865, 448);
    let attention = 4 * width * width + 3 * width; // The keys have no bias.
    let norm = 2 * width;
    let inner = 2 * width * 4 * width + 4 * width + width;
    let decoder = tokens * width + positions * width + 4 * (2 * attention + inner + 3 * norm) + norm;
    assert_eq!(structure("whisper-tiny").parameters(), 37_760_640 - decoder);
}

#[test]
fn macs_agree_with_formulas_of_the_architecture() {
    let check = |name: &str, expected: u64| {
        let entry = zoo_entry(name).expect("a zoo model");
        assert_eq!(structure(name).costs(&usual_shape(entry, 1)).expect("costs").macs(), expected, "{name}");
    };
    // At 128 tokens; BERT's pooler sees one of them.
    check("bert-base-uncased", transformer(12, 128, 768, 3_072) + 768 * 768);
    check("distilbert-base", transformer(6, 128, 768, 3_072));
    check("gpt2", transformer(12, 128, 768, 3_072) + 128 * 768 * 50_257);
    // 196 patches of 16 × 16 × 3 values, and the class token.
    check("vit-base-patch16-224", transformer(12, 197, 768, 3_072) + 196 * 768 * 768 + 768 * 1_000);
    let convolutions = 3_000 * 384 * 80 * 3 + 1_500 * 384 * 384 * 3;
    check("whisper-tiny", transformer(4, 1_500, 384, 1_536) + convolutions);
    // As torchvision publishes them (`_ops`): 4.089 and 0.301 G.
    check("resnet50", 4_089_184_256);
    check("mobilenet-v2", 300_774_272);
}

#[test]
fn declared_outputs_are_what_inference_finds() {
    for entry in zoo() {
        let model = structure(entry.name);
        let shape = usual_shape(entry, 3);
        let facts = model.facts(&shape).expect("facts");
        for output in &model.graph().output {
            let declared = crate::model::InputSpec::of(output).expect("a tensor").declared_dims(&shape);
            assert_eq!(Some(&facts[&output.name].dims), declared.as_ref(), "{} of {}", output.name, entry.name);
        }
    }
}

#[test]
fn limits_of_the_entries_are_those_of_the_graphs() {
    let check = |entry: &ZooEntry, shape: Shape, expected: Option<&str>| {
        let found = structure(entry.name).costs(&shape).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(found.err().as_deref(), expected, "{} at {shape:?}", entry.name);
    };
    for entry in zoo() {
        let usual = usual_shape(entry, 2);
        check(entry, usual, None);
        match entry.shape {
            ShapeInput::Sequence { max, .. } => {
                check(entry, Shape { sequence_length: Some(max), ..usual }, None);
                let error = format!("sequence length {} does not fit the model: at most {max} is possible", 2 * max);
                check(entry, Shape { sequence_length: Some(2 * max), ..usual }, Some(&error));
                let error = "the model needs a sequence length for input `input_ids`, and none is given";
                check(entry, Shape { sequence_length: None, ..usual }, Some(error));
            }
            ShapeInput::Image { default, resizable } => {
                let error = format!("image size 100 does not fit the model: exactly {default} is possible");
                check(entry, Shape { image_size: Some(100), ..usual }, (!resizable).then_some(error.as_str()));
            }
            ShapeInput::AudioFrames { default } => {
                check(entry, Shape { sequence_length: Some(default), ..usual }, None);
                let error = "sequence length 17 does not fit the model: its inputs have no sequence length to set";
                check(entry, Shape { sequence_length: Some(17), ..usual }, Some(error));
            }
        }
    }
}

#[test]
fn integer_inputs_are_bounded_by_what_they_index() {
    let shape = Shape { batch_size: 2, sequence_length: Some(16), image_size: None };
    let inputs = structure("bert-base-uncased").concrete_inputs(&shape).expect("inputs");
    let found: Vec<_> = inputs.iter().map(|input| (input.name.as_str(), input.value_max)).collect();
    assert_eq!(found, [("input_ids", 30_522), ("attention_mask", 2), ("token_type_ids", 2)]);
    assert!(inputs.iter().all(|input| input.dims == [2, 16]));
}

#[test]
fn a_built_file_is_whole_and_the_same_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    let sha256 = build("mobilenet-v2", &path).expect("a built model");
    // A change here changes the content hash of every result so far: raise `BUILDER_VERSION` with it.
    assert_eq!(sha256.to_string(), "23167ab57c9211d904a9b6945ecb76dd1ea27005696505b00503b87df32c145f");

    let bytes = std::fs::read(&path).expect("the file");
    let whole = ModelProto::decode(bytes.as_slice()).expect("protobuf").graph.expect("a graph");
    let mut values = 0_u64;
    for tensor in whole.initializer.iter().filter(|tensor| tensor.data_type == 1) {
        let elements: i64 = tensor.dims.iter().product();
        assert_eq!(tensor.raw_data.len(), 4 * usize::try_from(elements).expect("a length"), "{}", tensor.name);
        for bytes in tensor.raw_data.as_chunks::<4>().0 {
            let value = f32::from_le_bytes(*bytes);
            assert!(value == 0.0 || value.is_normal(), "{value} in {}", tensor.name);
            values += 1;
        }
    }
    let statistics: u64 = 2 * 17_056;
    assert_eq!(values, 3_504_872 + statistics);

    let read = OnnxModel::read(&path).expect("a model");
    let expected = structure("mobilenet-v2");
    assert_eq!((read.graph(), read.inputs(), read.opset()), (expected.graph(), expected.inputs(), expected.opset()));
    let shape = Shape { batch_size: 1, sequence_length: None, image_size: Some(224) };
    assert_eq!(read.costs(&shape).expect("costs"), expected.costs(&shape).expect("costs"));
}

#[test]
fn a_name_that_is_not_in_the_zoo_is_refused() {
    let error = build("resnet-50", Path::new("never-written.onnx")).expect_err("no such model");
    assert_eq!(error.to_string(), "no model is named `resnet-50`; near it are `resnet50`");
}
