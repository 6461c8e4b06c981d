//! `augur browsers detect` and `bench`, which need no broker.

use serde_json::Value;

use crate::{support::text, world_with_model};

/// One browser is enough here; both are probed and measured elsewhere.
#[test]
fn what_a_browser_can_do_is_shown_and_measured() {
    let world = world_with_model();
    for other in ["FIREFOX", "EDGE"] {
        world.set(&format!("AUGUR_BROWSERS__POOL__{other}__ENABLED"), "false");
    }
    let detected = world.augur(&["browsers", "detect", "--format", "json"]).json();
    let [chromium] = &detected.as_array().expect("a list")[..] else { panic!("Chromium alone: {detected:#}") };
    let capabilities = chromium["capabilities"].as_array().expect("a list");
    let of = |platform: &str| capabilities.iter().find(|row| row["platform"] == platform).expect("it is probed");
    assert_eq!((&of("wasm")["works"], &of("webnn")["works"]), (&true.into(), &false.into()), "{detected:#}");
    assert!(!text(of("webnn"), "reason").is_empty());
    let webgpu = of("webgpu");
    assert!(webgpu["works"] == true && webgpu["is_fallback"].is_boolean(), "{webgpu:#}");
    assert!(!text(webgpu, "adapter").is_empty() && webgpu["features"].as_array().is_some_and(|all| !all.is_empty()));
    assert!(webgpu["limits"]["maxBufferSize"].as_f64() > Some(0.0), "{webgpu:#}");

    let numbers = world.path("bench.json");
    let output = numbers.display().to_string();
    let few = ["--iterations", "3", "--concurrent", "1", "--rounds", "2", "--sequence-length", "8"];
    let bench = ["browsers", "bench", "--models", "bert-tiny", "--precision", "fp32,int4"];
    let place = ["--platforms", "wasm", "--output", &output];
    let said = world.augur(&[&bench[..], &place, &few].concat()).expect(0);
    assert!(said.contains("bert-tiny"), "{said}");
    let read = std::fs::read(&numbers).expect("written");
    let read: Value = serde_json::from_slice(&read).expect("JSON");
    assert_eq!((&read["jobs"], &read["failed"]), (&4.into(), &0.into()), "{read:#}");
    for row in read["results"].as_array().expect("a list") {
        assert_eq!((text(row, "browser"), &row["iterations"]), ("chromium", &3.into()), "{row:#}");
        assert!(row["latency_p50_ms"].as_f64() > Some(0.0) && row["nodes"]["CPUExecutionProvider"].as_u64() > Some(0));
        for compared in ["latency_of_fp32", "memory_of_fp32"] {
            assert_eq!(row[compared].as_f64() > Some(0.0), row["precision"] == "int4", "{compared}: {row:#}");
        }
    }
    let picture = std::fs::read_to_string(numbers.with_extension("svg")).expect("drawn");
    assert!(picture.contains("<svg") && picture.contains("chromium"), "{picture}");
}
