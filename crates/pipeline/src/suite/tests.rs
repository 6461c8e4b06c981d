//! Suites expand as written, and say what is wrong with them.

use super::*;

fn parse(text: &str) -> Result<Suite, SuiteError> {
    Suite::parse("suite.yaml", text)
}

/// Checks that a suite is refused with a message that names place and remedy.
fn check_refused(text: &str, expected: &[&str]) {
    let message = parse(text).expect_err("the suite is wrong").to_string();
    for part in expected {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn a_grid_expands_to_every_combination() {
    let suite = parse(
        "version: 1\nname: grid\nbenchmarks:\n  - models: [resnet50, bert-base-uncased]\n    batch_sizes: [1, 2, 4]\n    threads: [1, 2]\n",
    )
    .expect("a good suite");
    assert_eq!(suite.cases.len(), 12);
    assert_eq!(suite.cases[0].name, "resnet50 cpu fp32 batch 1 image 224 threads 1");
    let CaseSpec::Benchmark(last) = &suite.cases[11].spec else { panic!("a benchmark") };
    assert_eq!((last.configuration.batch_size, last.configuration.threads), (4, 2));
    assert!(last.configuration.sequence_length.is_some(), "bert's usual sequence length is filled in");
}

#[test]
fn tests_repeat_under_numbered_names() {
    let suite = parse("version: 1\nname: t\npriority: high\ntests:\n  - {name: noop, profile: noop, repeat: 3}\n")
        .expect("a good suite");
    let names: Vec<_> = suite.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["noop 1", "noop 2", "noop 3"]);
    assert!(suite.cases.iter().all(|case| case.priority == Priority::High));
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    check_refused(
        "version: 1\nname: x\nbenchmarks:\n  - models: [resnet50]\n    batchsizes: [1]\n",
        &["suite.yaml", "batchsizes", "line 5"],
    );
}

#[test]
fn impossible_values_are_refused_with_their_place() {
    let grid = |more: &str| format!("version: 1\nname: x\nbenchmarks:\n  - models: [resnet50]\n    {more}\n");
    check_refused(&grid("batch_sizes: [4, 0]"), &["benchmarks[0].batch_sizes", "batch_size is 0", "1 to 65536"]);
    check_refused(&grid("threads: []"), &["benchmarks[0].threads", "empty"]);
    check_refused(&grid("platforms: [gpu]"), &["benchmarks[0].platforms", "`gpu` is not a platform", "cuda"]);
    check_refused(&grid("iterations_min: 9\n    iterations_max: 3"), &["9 to 3 is no range"]);
    check_refused(&grid("timeout_s: -1"), &["benchmarks[0].timeout_s", "-1"]);
    check_refused(&grid("median_interval_pct: 0"), &["benchmarks[0].median_interval_pct", "above 0"]);
    let zoo =
        |model: &str, more: &str| format!("version: 1\nname: x\nbenchmarks:\n  - models: [{model}]\n    {more}\n");
    check_refused(&zoo("vit-base-patch16-224", "image_sizes: [160]"), &["benchmarks[0].image_sizes", "takes 224 only"]);
    check_refused(&zoo("gpt2", "sequence_lengths: [4096]"), &["benchmarks[0].sequence_lengths", "at most 1024"]);
    check_refused("version: 1\nname: x\n", &["no case at all"]);
    check_refused("version: 7\nname: x\n", &["version", "7 is not known"]);
    check_refused(
        "version: 1\nname: x\ntests: [{name: a, profile: p}, {name: a, profile: p}]\n",
        &["`a` is there twice"],
    );
}

#[test]
fn what_a_suite_asks_of_workers_holds_for_entries_that_say_nothing() {
    let suite = parse(
        "version: 1\nname: t\nattempts_max: 5\nrequirements: {tags: [lab, gpu, lab], memory_mb_min: 4000}\ntests:\n  \
         - {name: usual, profile: noop}\n  \
         - {name: own, profile: noop, attempts_max: 1, requirements: {browser: firefox, device_memory_mb_min: 8000}}\n",
    )
    .expect("a good suite");
    let [usual, own] = suite.cases.as_slice() else { panic!("two cases") };
    let all = Requirements {
        memory_mb_min: Some(4_000),
        tags: vec!["gpu".to_owned(), "lab".to_owned()],
        ..Requirements::default()
    };
    assert_eq!((usual.attempts_max, &usual.requirements), (5, &all));
    let others = Requirements {
        device_memory_mb_min: Some(8_000),
        browser: Some("firefox".to_owned()),
        ..Requirements::default()
    };
    assert_eq!((own.attempts_max, &own.requirements), (1, &others));
}

#[test]
fn a_unique_key_is_unique_to_each_case() {
    let suite = parse(
        "version: 1\nname: t\nbenchmarks:\n  - {models: [resnet50], threads: [1, 2], unique_key: nightly}\ntests:\n  \
         - {name: one, profile: noop, unique_key: one-key}\n  - {name: two, profile: noop, repeat: 2, unique_key: k}\n  \
         - {name: none, profile: noop}\n",
    )
    .expect("a good suite");
    let keys: Vec<_> = suite.cases.iter().map(|case| case.unique_key.as_deref().unwrap_or("none")).collect();
    assert_eq!(
        keys,
        [
            "nightly/resnet50 cpu fp32 batch 1 image 224 threads 1",
            "nightly/resnet50 cpu fp32 batch 1 image 224 threads 2",
            "one-key",
            "k/two 1",
            "k/two 2",
            "none",
        ]
    );
}

#[test]
fn impossible_ways_of_dispatching_are_refused_with_their_place() {
    let test = |more: &str| format!("version: 1\nname: x\ntests:\n  - {{name: a, profile: p, {more}}}\n");
    check_refused(&test("attempts_max: 0"), &["tests[0].attempts_max", "0 is not possible", "1 to 20"]);
    check_refused("version: 1\nname: x\nattempts_max: 21\ntests: [{name: a, profile: p}]\n", &["attempts_max", "21"]);
    check_refused(&test("requirements: {memory_mb_min: 0}"), &["tests[0].requirements.memory_mb_min", "0 MB"]);
    check_refused(&test("requirements: {tags: [\"\"]}"), &["tests[0].requirements.tags", "no word"]);
    check_refused(&test("requirements: {browser: \"fire fox\"}"), &["tests[0].requirements.browser", "fire fox"]);
    check_refused(&test("requirements: {disk: 1}"), &["disk", "line 4"]);
    check_refused(&test("unique_key: \"\""), &["tests[0].unique_key", "empty"]);
    check_refused(
        "version: 1\nname: x\ntests: [{name: a, profile: p, unique_key: k}, {name: b, profile: p, unique_key: k}]\n",
        &["unique_key", "`k` is there twice"],
    );
}

#[test]
fn a_web_grid_has_a_case_for_each_browser() {
    let suite = parse(
        "version: 1\nname: w\nweb:\n  - models: [mobilenet-v2]\n    platforms: [webgpu, wasm]\n    \
         browsers: [chromium, firefox]\n    threads: [1, 2]\n    memory_mb: 900\n  \
         - {models: [resnet50], platforms: [webgpu], fallback_platforms: [wasm]}\n",
    )
    .expect("a good suite");
    assert_eq!(suite.cases.len(), 9);
    let [first, .., any] = suite.cases.as_slice() else { panic!("cases") };
    assert_eq!(first.name, "mobilenet-v2 webgpu fp32 batch 1 image 224 threads 1 chromium");
    assert_eq!((first.platform(), first.requirements.browser.as_deref()), (Platform::Webgpu, Some("chromium")));
    let CaseSpec::Web(web) = &first.spec else { panic!("a web case") };
    assert_eq!((web.browsers.as_slice(), web.memory_mb), (&["chromium".to_owned()][..], Some(900)));
    assert_eq!(web.benchmark.configuration.backend, Backend::OrtWeb);
    let CaseSpec::Web(web) = &any.spec else { panic!("a web case") };
    assert_eq!((any.name.as_str(), web.browsers.len()), ("resnet50 webgpu fp32 batch 1 image 224 threads 1", 0));
    assert_eq!(web.acceptable_platforms(), [Platform::Webgpu, Platform::Wasm]);
}

#[test]
fn grids_of_the_wrong_kind_are_refused_with_where_they_belong() {
    let grid = |list: &str, more: &str| {
        format!("version: 1\nname: x\n{list}:\n  - models: [resnet50]\n    platforms: [{more}\n")
    };
    check_refused(&grid("benchmarks", "webgpu]"), &["benchmarks[0].platforms", "under `web`"]);
    check_refused(&grid("benchmarks", "cpu]\n    browsers: [firefox]"), &["benchmarks[0].browsers", "under `web`"]);
    check_refused(&grid("web", "cuda]"), &["web[0].platforms", "cuda does not run in browsers", "under `benchmarks`"]);
    check_refused(&grid("web", "wasm]\n    fallback_platforms: [cpu]"), &["web[0].fallback_platforms", "cpu"]);
    check_refused(&grid("web", "wasm]\n    browsers: []"), &["web[0].browsers", "the list is empty"]);
    check_refused(&grid("web", "wasm]\n    browsers: [\"fire fox\"]"), &["web[0].browser", "`fire fox`"]);
    check_refused(&grid("web", "wasm]\n    memory_mb: 0"), &["web[0].memory_mb", "0 MB"]);
    check_refused(&grid("web", "wasm]\n    threads: [0]"), &["web[0].threads", "threads is 0"]);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,400}") {
        drop(parse(&text));
    }
}
