//! What a release says of a suite's benchmarks: it travels with their jobs, to be held against what they measure.

use std::collections::HashMap;

use features::{Subject, TrainingTable};
use graphs::{ModelCache, Shape};
use messages::{Configuration, Device, Platform};
use predictors::Release;

use super::{CaseSpec, Suite};
use crate::{PipelineError, costs::Costs};

impl Suite {
    /// Lets each benchmark carry what a release predicts of it; models must be resolved.
    ///
    /// A prediction is about a device, and which one takes a job is not known before: it is taken to be the one that was
    /// measured last on the platform and in the browser, or else the one of `here`. If another one measures, the
    /// prediction is held against nothing. A case without such a device goes without, and so does one that several
    /// platforms or browsers may take, or whose model does not take its shape, of which its job will tell.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Predictors`] if the release cannot be asked; then no case has a prediction.
    pub fn predict(
        &mut self,
        release: &Release,
        measured: &TrainingTable,
        here: &[Device],
        models: &ModelCache,
    ) -> Result<(), PipelineError> {
        let places = Places::new(measured, here);
        let mut costs = Costs::new(models);
        let mut known: HashMap<&Configuration, Option<usize>> = HashMap::new();
        let mut subjects: Vec<Subject> = Vec::new();
        let mut asked: Vec<Option<usize>> = Vec::with_capacity(self.cases.len());
        for case in &self.cases {
            // Repeats of a configuration are asked about once.
            let question = |configuration| {
                *known.entry(configuration).or_insert_with(|| {
                    subjects.push(subject(configuration, &places, &mut costs)?);
                    Some(subjects.len() - 1)
                })
            };
            asked.push(certain(&case.spec).and_then(question));
        }
        if subjects.is_empty() {
            return Ok(());
        }
        let predicted = release.predictors.predict_subjects(&subjects);
        let predicted = predicted.map_err(PipelineError::predictors("submission"))?;
        for (case, index) in self.cases.iter_mut().zip(asked) {
            if let (Some(benchmark), Some(index)) = (case.spec.benchmark_mut(), index) {
                let device = &subjects[index].device.name;
                benchmark.prediction = Some(predicted[index].to_prediction(&release.manifest.release_id, device));
            }
        }
        Ok(())
    }
}

/// What is asked about a configuration, where that is known.
fn subject(configuration: &Configuration, places: &Places<'_>, costs: &mut Costs<'_>) -> Option<Subject> {
    let device = places.device(configuration)?;
    let costs = costs.of(&configuration.model, configuration.precision, Shape::of(configuration)).ok()?;
    Some(Subject { configuration: configuration.clone(), device, costs })
}

/// What a case will measure; `None` for a test, and where its worker chooses among platforms or browsers.
fn certain(spec: &CaseSpec) -> Option<&Configuration> {
    match spec {
        CaseSpec::Test { .. } => None,
        CaseSpec::Benchmark(benchmark) => Some(&benchmark.configuration),
        CaseSpec::Web(web) => {
            let configuration = &web.benchmark.configuration;
            (web.acceptable_platforms().len() == 1 && configuration.browser.is_some()).then_some(configuration)
        }
    }
}

/// The devices that jobs are expected to run on.
struct Places<'a> {
    /// By platform and browser.
    measured_last: HashMap<(Platform, Option<&'a str>), &'a Device>,
    here: &'a [Device],
}

impl<'a> Places<'a> {
    fn new(measured: &'a TrainingTable, here: &'a [Device]) -> Self {
        let place = |of: &'a Configuration| (of.platform, of.browser.as_deref());
        let rows = measured.measurements().iter();
        Self { measured_last: rows.map(|row| (place(&row.configuration), &row.device)).collect(), here }
    }

    fn device(&self, of: &Configuration) -> Option<Device> {
        let Configuration { platform, browser, .. } = of;
        let known = |platform: Platform, browser: Option<&str>| {
            let here = || self.here.iter().find(|device| device.platform == platform);
            self.measured_last.get(&(platform, browser)).copied().or_else(here).cloned()
        };
        // WebAssembly is the processor's, in whichever browser.
        let processor = || known(Platform::Cpu, None).filter(|_| *platform == Platform::Wasm);
        known(*platform, browser.as_deref())
            .or_else(|| processor().map(|device| Device { platform: Platform::Wasm, ..device }))
    }
}
