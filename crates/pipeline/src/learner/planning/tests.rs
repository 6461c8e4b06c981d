use std::{collections::BTreeMap, sync::LazyLock};

use features::{OwnTables, TrainingTable};
use messages::{AcceptedMeasurement, Configuration, ContentHash, GraphCosts, Metric, ModelRef, Timestamp};
use planner::Withheld;
use predictors::{Judged, KnownJobs, Provenance, Source, TrainSettings, UpdateStrategy};
use testkit::builders;

use super::*;

fn search() -> SearchSettings {
    SearchSettings {
        models: vec!["bert-tiny".to_owned()],
        batch_sizes: vec![1, 2],
        sequence_lengths: vec![16],
        threads: vec![1],
        web_platforms: Vec::new(),
        priority: Priority::Low,
        seed: 0,
    }
}

/// Everything of one small model, at most eight.
pub(crate) fn request() -> PlanRequest {
    PlanRequest {
        search: search(),
        strategy: Strategy::Hybrid,
        count: 8,
        constraints: Constraints { model_max: Some(8), ..Constraints::default() },
        barred: Barred::default(),
        preferred_devices: Vec::new(),
        first_device: None,
        web_places: Vec::new(),
        is_without_release: false,
    }
}

fn measured(platform: Platform, browser: &str, device: &str) -> Subject {
    let configuration = Configuration {
        model: ModelRef { name: "a".to_owned(), sha256: ContentHash([1; 32]) },
        platform,
        backend: Backend::OrtWeb,
        precision: Precision::Fp32,
        batch_size: 1,
        sequence_length: None,
        image_size: None,
        threads: 1,
        browser: Some(browser.to_owned()),
    };
    let costs = GraphCosts { parameters: 1, operators: Vec::new(), memory: None };
    Subject { configuration, device: Device::unknown(device, platform), costs }
}

fn check(web_platforms: &[Platform], places: &[(Platform, &str)], expected: &[(Platform, &str, &str)]) {
    let request = PlanRequest {
        search: SearchSettings { web_platforms: web_platforms.to_vec(), ..search() },
        web_places: places.iter().map(|(platform, browser)| (*platform, (*browser).to_owned())).collect(),
        ..request()
    };
    let past = [
        measured(Platform::Webgpu, "firefox", "an older adapter"),
        measured(Platform::Webgpu, "firefox", "llvmpipe on CPU"),
    ];
    let found = web_devices(&request, &past, &[Device::unknown("CPU", Platform::Cpu)]);
    let found: Vec<_> =
        found.iter().map(|(device, browser)| (device.platform, device.name.as_str(), browser.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn browsers_of_live_workers_have_the_device_that_they_were_measured_on() {
    let all = Platform::WEB;
    let places = [(Platform::Wasm, "chromium"), (Platform::Webgpu, "firefox"), (Platform::Webgpu, "chromium")];
    let wasm = (Platform::Wasm, "CPU", "chromium");
    check(&all, &places, &[wasm, (Platform::Webgpu, "llvmpipe on CPU", "firefox")]);
    check(&[Platform::Wasm], &places, &[wasm]);
    check(&all, &[], &[]);
}

#[test]
fn only_webassembly_has_threads() {
    let threads = |platform| {
        let space = SearchSpace {
            device: Device::unknown("CPU", platform),
            backend: Backend::Onnxruntime,
            browser: None,
            models: Vec::new(),
            precisions: vec![Precision::Fp32],
            batch_sizes: vec![1],
            threads: vec![1, 2],
        };
        let space = web_space(space, "firefox".to_owned());
        assert_eq!((space.backend, space.browser.as_deref()), (Backend::OrtWeb, Some("firefox")));
        space.threads
    };
    assert_eq!(threads(Platform::Wasm), [1, 2]);
    assert_eq!(threads(Platform::Webgpu), [1]);
}

/// A releases directory with a training table of a device on each of two platforms, and a release of it.
struct Installation {
    directory: tempfile::TempDir,
    models: ModelCache,
}

impl Installation {
    /// On these platforms the last update did not help.
    fn new(astray: &[Platform]) -> Self {
        static ROWS: LazyLock<Vec<AcceptedMeasurement>> = LazyLock::new(|| {
            let on = |platform: Platform, device: &str, mut row: AcceptedMeasurement| {
                (row.configuration.platform, row.device.platform) = (platform, platform);
                device.clone_into(&mut row.device.name);
                row
            };
            let rows = || builders::batch_grid(1..=10, 1.0).into_iter();
            let on_cuda = rows().map(|row| on(Platform::Cuda, "GPU", row));
            rows().map(|row| on(Platform::Cpu, "A", row)).chain(on_cuda).collect()
        });
        let directory = tempfile::tempdir().expect("a directory");
        let path = &directory.path().join("releases");
        let mut table = TrainingTable::empty();
        table.append(&ROWS);
        std::fs::create_dir_all(path.join("training")).expect("made");
        table.write(&path.join("training/80.parquet")).expect("written");
        std::fs::write(path.join("training/position"), "80\n").expect("written");
        let settings = TrainSettings { rounds: 20, ensemble: 2, ..TrainSettings::default() };
        let OwnTables { rows, devices, operators } = OwnTables::of(&ROWS, |_| None);
        let latency = [Metric::LatencyMs];
        let predictors = Predictors::train(rows, &devices, &operators, &latency, &settings, |_| ()).expect("enough");
        let judged = |platform: &Platform| Judged {
            metric: Metric::LatencyMs,
            platform: platform.to_string(),
            rows: 20,
            mape_pct: 50.0,
            current_mape_pct: 50.0,
            inside_pct: 10.0,
            is_worse: false,
        };
        let update = Update {
            strategy: UpdateStrategy::Full,
            reason: "a test".to_owned(),
            table_rows: 80,
            whole_rows: 80,
            held_out: Vec::new(),
            judged: astray.iter().map(judged).collect(),
            is_promoted: true,
        };
        let provenance = Provenance { source: Source::Jobs, jobs: KnownJobs::default(), update: Some(update) };
        let releases = Releases::open(path).expect("opened");
        releases.publish(&predictors, provenance, Timestamp::now(), "0.1.0").expect("published");
        let models = ModelCache::open(&directory.path().join("models")).expect("opened");
        Self { directory, models }
    }

    fn plan(&self, request: &PlanRequest) -> Planned {
        plan_next(&self.directory.path().join("releases"), request, &self.models).expect("planned")
    }
}

/// How many proposals there are for each device.
fn of_devices(planned: &Planned) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for proposal in &planned.proposals {
        *counts.entry(proposal.device.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn where_an_update_did_not_help_the_learner_measures() {
    let installation = Installation::new(&[Platform::Cuda]);
    let planned = installation.plan(&request());
    assert_eq!((&planned.asked_for[..], of_devices(&planned)), (&[Platform::Cuda][..], [("GPU", 2)].into()));
    let is_queued = |proposal: &Proposal| (proposal.configuration.to_string(), Withheld::Queued);
    let configurations = planned.proposals.iter().map(is_queued).collect();
    let barred = Barred { configurations, ..Barred::default() };
    let planned = installation.plan(&PlanRequest { barred, ..request() });
    assert_eq!(
        (planned.asked_for.len(), of_devices(&planned)),
        (0, [("A", 2)].into()),
        "the others are no worse for it"
    );
    let planned = Installation::new(&[]).plan(&request());
    assert_eq!((planned.asked_for.len(), of_devices(&planned)), (0, [("A", 2), ("GPU", 2)].into()));
}

/// Once anything was measured nothing was proposed for any other device, so that nobody could begin with a new one.
#[test]
fn a_preferred_device_begins_with_what_is_representative() {
    let installation = Installation::new(&[]);
    let new = Device { name: "B".to_owned(), ..builders::device() };
    let planned = installation.plan(&PlanRequest { preferred_devices: vec![new], ..request() });
    assert_eq!(of_devices(&planned), [("B", 2), ("GPU", 2)].into(), "of other platforms what was measured last");
    let on_new: Vec<&Proposal> = planned.proposals.iter().filter(|proposal| proposal.device == "B").collect();
    assert!(on_new.iter().all(|proposal| proposal.parts[0].0 == "representative"), "{on_new:?}");
    assert!(on_new.iter().all(|proposal| !proposal.predicted.metrics.is_empty()), "{on_new:?}");
}
