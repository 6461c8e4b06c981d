use prost::Message;

use super::*;
use crate::{model::Shape, proto::ModelProto};

fn structure(name: &str) -> OnnxModel {
    zoo_structure(name).expect("a zoo model")
}

fn usual_shape(entry: &ZooEntry, batch_size: u32) -> Shape {
    let (sequence_length, image_size) = entry.shape.usual();
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
    check("resnet18", 1_814_073_344);
    // Nine layers of an encoder and a decoder, half of which see both sequences; the head sees the decoder's.
    let (length, width) = (128, 512);
    let seen = 6 * (4 * length * width * width + 2 * length * length * width);
    check("t5-small", 2 * transformer(6, length, width, 2_048) + seen + length * width * 32_128);
    // Llama's layers: queries and outputs of 576, keys and values of 192, three inner products.
    let layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1_536;
    check("smollm2-135m", 30 * (128 * layer + 2 * 128 * 128 * 576) + 128 * 576 * 49_152);
    // 50 patches and tokens, 77 tokens of text, and two projections of one vector each.
    let patches = 49 * 768 * 3 * 32 * 32;
    check(
        "clip-vit-base-patch32",
        transformer(12, 50, 768, 3_072) + patches + transformer(12, 77, 512, 2_048) + 768 * 512 + 512 * 512,
    );
}

#[test]
fn declared_outputs_are_what_inference_finds() {
    for entry in zoo() {
        let model = structure(entry.name);
        let shape = usual_shape(entry, 3);
        let facts = model.facts(&shape).expect("facts");
        for output in &model.graph().output {
            let declared = crate::model::InputSpec::of(output).expect("a tensor").declared_dims(&shape);
            // How many frames sound becomes has no name that decides it.
            let Some(declared) = declared else { continue };
            assert_eq!(facts[&output.name].dims, declared, "{} of {}", output.name, entry.name);
        }
    }
}

/// Models that compute their positions, so that only their training limits a sequence.
const POSITIONS_COMPUTED: &[&str] = &["llama-68m", "smollm2-135m", "smolvlm-256m"];

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
                let is_computed = POSITIONS_COMPUTED.contains(&entry.name);
                check(entry, Shape { sequence_length: Some(2 * max), ..usual }, (!is_computed).then_some(&error));
                let input = if entry.name == "whisper-base" { "decoder_input_ids" } else { "input_ids" };
                let error = format!("the model needs a sequence length for input `{input}`, and none is given");
                check(entry, Shape { sequence_length: None, ..usual }, Some(&error));
            }
            ShapeInput::Samples { min, .. } => {
                check(entry, Shape { sequence_length: Some(min), ..usual }, None);
                let shape = Shape { sequence_length: Some(min - 1), ..usual };
                assert!(matches!(structure(entry.name).costs(&shape), Err(GraphError::Inference { .. })));
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
    let sha256 = build("mobilenet-v2", Precision::Fp32, &path).expect("a built model");
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
    let error = build("resnet-50", Precision::Fp32, Path::new("never-written.onnx")).expect_err("no such model");
    assert_eq!(
        error.to_string(),
        "no model is named `resnet-50`; near it are `detr-resnet-50`, `resnet50`, `resnet18`"
    );
}

/// The structure of a network in a precision; no weights are made.
fn structure_at(architecture: Architecture, precision: Precision) -> OnnxModel {
    OnnxModel::new(architecture.at(precision).structure()).expect("a whole model")
}

#[test]
fn names_of_nodes_values_and_weights_are_unique() {
    for entry in zoo() {
        for precision in Precision::ALL {
            let model = architecture(entry.name).expect("a zoo model").at(*precision).structure();
            let graph = model.graph.expect("a graph");
            let values = graph.node.iter().flat_map(|node| &node.output);
            let weights = graph.initializer.iter().map(|tensor| &tensor.name);
            let mut made: Vec<_> = values.chain(weights).chain(graph.input.iter().map(|input| &input.name)).collect();
            let mut nodes: Vec<_> = graph.node.iter().map(|node| &node.name).collect();
            for names in [&mut made, &mut nodes] {
                names.sort_unstable();
                let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
                assert!(twice.is_empty(), "{} {precision}: {twice:?}", entry.name);
            }
        }
    }
}

#[test]
fn precisions_change_formats_and_neither_arithmetic_nor_parameters() {
    // Heads that reuse their embeddings get a copy of their own in integers.
    let copied = |name: &str| match name {
        "t5-small" => 32_128 * 512,
        "gpt2" | "distilgpt2" => 50_257 * 768,
        "opt-125m" => 50_272 * 768,
        "smollm2-135m" => 49_152 * 576,
        "whisper-base" => 51_865 * 512,
        _ => 0,
    };
    for entry in zoo() {
        let at = |precision| structure_at(architecture(entry.name).expect("a zoo model"), precision);
        let shape = usual_shape(entry, 1);
        let single = at(Precision::Fp32);
        let weight_bytes = |model: &OnnxModel| model.costs(&shape).expect("costs").memory.expect("read").weight_bytes;
        for precision in [Precision::Fp16, Precision::Int8, Precision::Int4] {
            let model = at(precision);
            let context = format!("{} in {precision}", entry.name);
            assert_eq!(model.precision(), precision, "{context}");
            let expected =
                entry.published_parameters + if precision == Precision::Fp16 { 0 } else { copied(entry.name) };
            assert_eq!(model.parameters(), expected, "{context}");
            assert_eq!(
                model.costs(&shape).expect("costs").macs(),
                single.costs(&shape).expect("costs").macs(),
                "{context}"
            );
            assert!(weight_bytes(&model) < weight_bytes(&single), "{context}");
        }
    }
}

#[test]
fn miniatures_are_small_and_can_be_costed() {
    for kind in MINIATURES {
        let model = structure_at(miniature(kind).expect("a miniature"), Precision::Fp32);
        assert!(model.parameters() < 3_000_000, "{kind} has {}", model.parameters());
        let free = |names: &[&str]| {
            let dims = model.inputs().iter().flat_map(|input| &input.dims);
            dims.into_iter()
                .any(|dim| matches!(dim, crate::Dim::Symbol(name) if names.iter().any(|part| name.contains(part))))
        };
        let shape = Shape {
            batch_size: 2,
            sequence_length: free(&["sequence"]).then_some(if *kind == "wav2vec2" { 2_000 } else { 16 }),
            image_size: free(&["height"]).then_some(64),
        };
        assert!(model.costs(&shape).expect("costs").macs() > 0, "{kind}");
    }
}
