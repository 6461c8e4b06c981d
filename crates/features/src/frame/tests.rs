//! Features say what their meaning says, and nothing is looked up by a name.

use super::*;
use crate::described::tests::tables;

#[test]
fn features_say_what_their_meaning_says() {
    let (rows, devices, operators) = tables();
    let built = FeatureFrame::build(&rows, &devices, &operators).expect("built");
    let names: Vec<_> = features().into_iter().map(|feature| feature.name).collect();
    let matrix = built.to_matrix();
    let check = |name: &str, expected: f64| {
        let found = f64::from(matrix[names.iter().position(|found| found == name).expect("a feature")]);
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{name}: {found}, not {expected}");
    };
    check("log_macs", 1e9_f64.ln());
    check("log_roofline_ms", 24_f64.ln());
    check("compute_bound_share", 20.0 / 24.0);
    check("time_share_conv_dense", 20.0 / 24.0);
    check("time_share_elem_memory", 4.0 / 24.0);
    check("log_fused_share", (21_f64 / 24.0).ln());
    check("operator_share_elem", 2.0 / 3.0);
    check("log_batch_size", 2_f64.ln());
    assert_eq!(built.base(Metric::LatencyMs).len(), 1);
    let shares: f32 = names.iter().zip(&matrix).filter(|(name, _)| is_time_share(name)).map(|(_, share)| share).sum();
    assert!((shares - 1.0).abs() < 1e-5, "{shares}");
    let unknown = names.iter().position(|name| name == "log_sequence_length").expect("a feature");
    assert!(matrix[unknown].is_nan(), "what is unknown is missing");
}

#[test]
fn names_of_models_and_devices_do_not_matter() {
    let bits = |rows: &[MeasuredRow], devices: &DeviceTable, operators: &OperatorTable| -> Vec<u32> {
        let built = FeatureFrame::build(rows, devices, operators).expect("built");
        built.to_matrix().into_iter().map(f32::to_bits).collect()
    };
    let (mut rows, mut devices, mut operators) = tables();
    let known = bits(&rows, &devices, &operators);
    rows[0].model = "another".to_owned();
    rows[0].device = "Another GPU".to_owned();
    operators = operators.into_values().map(|entries| ("another".to_owned(), entries)).collect();
    devices = devices.into_values().map(|device| ("Another GPU".to_owned(), device)).collect();
    assert_eq!(bits(&rows, &devices, &operators), known);
}

#[test]
fn no_rows_make_an_empty_frame_and_the_schema_names_each_feature_once() {
    let empty = FeatureFrame::build(&[], &DeviceTable::new(), &OperatorTable::new()).expect("built");
    assert_eq!((empty.rows(), empty.frame().width()), (0, features().len()));
    let names: std::collections::HashSet<_> = features().into_iter().map(|feature| feature.name).collect();
    assert_eq!((names.len(), schema_id().len()), (features().len(), 16));
}

#[test]
fn a_browser_is_a_category_that_may_be_unknown() {
    let (rows, devices, operators) = tables();
    let flags = |backend: Option<&str>, compiler: Option<&str>, platform: &str| {
        let mut rows = rows.clone();
        rows[0].backend = backend.map(str::to_owned);
        rows[0].compiler = compiler.map(str::to_owned);
        rows[0].platform = Some(platform.to_owned());
        let built = FeatureFrame::build(&rows, &devices, &operators).expect("built");
        ["browser", "gecko", "webnn", "compiled"].map(|name| {
            let column = built.frame().column(name).expect("a feature");
            single_precision(column).get(0)
        })
    };
    let web = Some("ort-web");
    assert_eq!(flags(web, Some("firefox"), "webgpu"), [Some(1.0), Some(1.0), Some(0.0), None]);
    assert_eq!(flags(web, Some("chromium"), "webnn"), [Some(1.0), Some(0.0), Some(1.0), None]);
    assert_eq!(flags(web, None, "wasm"), [Some(1.0), None, Some(0.0), None]);
    assert_eq!(flags(Some("pytorch"), Some("eager"), "cuda"), [Some(0.0), None, None, Some(0.0)]);
    assert_eq!(flags(None, None, "cpu"), [None, None, None, None]);
}
