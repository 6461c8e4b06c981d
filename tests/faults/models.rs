//! Model files that are damaged, and a machine without ONNX Runtime.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{World, assert_counts, text};

/// Few and short iterations: these tests are about whether it runs, not how fast.
const SHORT: &str = "image_sizes: [96], iterations_min: 1, iterations_max: 2, warmup_iterations: 0";

/// A model's file in the cache, by its name.
fn cached_file(world: &World, name: &str) -> PathBuf {
    let models = world.augur(&["model", "list", "--format", "json"]).json();
    let row = models.as_array().expect("a list").iter().find(|row| row["name"] == name).expect("listed").clone();
    world.cache().join("models").join(format!("{}.onnx", text(&row, "sha256")))
}

fn by_model<'a>(results: &'a [Value], model: &str) -> &'a Value {
    results.iter().find(|row| row["model"] == model).expect("a result of that model")
}

#[test]
fn a_damaged_model_is_an_error_and_a_damaged_one_of_the_zoo_is_built_again() {
    let world = World::new();
    let file = world.path("mine.onnx");
    let file = file.to_str().expect("text");
    world.augur(&["model", "build", "mobilenet-v2", "--output", file]).expect(0);
    let mut bytes = std::fs::read(file).expect("built");
    // Field 6 of ONNX's `ModelProto` is its documentation: another content, the same model.
    bytes.extend([0x32, 4, b'm', b'i', b'n', b'e']);
    std::fs::write(file, bytes).expect("written");
    world.augur(&["model", "register", "mine", file]).expect(0);

    let _aggregator = world.aggregator();
    let run = world.submit(&format!("benchmarks:\n  - {{models: [mine, mobilenet-v2], {SHORT}}}"));
    let (mine, zoo) = (cached_file(&world, "mine"), cached_file(&world, "mobilenet-v2"));
    let intact = std::fs::read(&zoo).expect("cached");
    for path in [&mine, &zoo] {
        let mut bytes = std::fs::read(path).expect("cached");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(path, bytes).expect("damaged");
    }
    let _worker = world.worker("w1", &[]);

    assert_counts(&world.complete(&run), 2, [1, 0, 1, 0]);
    let results = world.results(&run);
    let corrupt = by_model(&results, "mine");
    assert_eq!((text(corrupt, "status"), text(corrupt, "failure_type")), ("error", "model-corrupt"));
    assert!(text(corrupt, "failure_message").contains("mine"), "{corrupt:#}");
    assert_ne!(text(corrupt, "suggestion"), "");
    assert_eq!(text(by_model(&results, "mobilenet-v2"), "status"), "passed");
    assert!(std::fs::read(&zoo).expect("cached") == intact, "the zoo's file is as it was");
}

#[test]
fn without_onnx_runtime_benchmarks_are_unavailable_and_tests_run() {
    let world = World::new();
    world.set("AUGUR_ONNXRUNTIME_LIBRARY", "/nonexistent.so");
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let run = world.submit(&format!(
        "benchmarks:\n  - {{models: [mobilenet-v2], {SHORT}}}\ntests:\n  - {{name: nothing, profile: noop}}"
    ));
    assert_counts(&world.complete(&run), 2, [1, 0, 1, 0]);
    let results = world.results(&run);
    let benchmark = by_model(&results, "mobilenet-v2");
    assert_eq!(text(benchmark, "failure_type"), "unavailable");
    assert!(text(benchmark, "failure_message").contains("/nonexistent.so"), "{benchmark:#}");
    assert!(text(benchmark, "suggestion").contains("AUGUR_ONNXRUNTIME_LIBRARY"), "{benchmark:#}");
    assert!(results.iter().any(|row| row["case"] == "nothing" && row["status"] == "passed"));
}
