//! Why predictors could not be trained, asked, saved or loaded.

use std::path::PathBuf;

use features::FeatureError;
use messages::{Metric, ReleaseId};
use thiserror::Error;
use xgboost_rs::XGBError;

/// Why predictors could not be trained, asked, saved or loaded.
#[derive(Debug, Error)]
pub enum PredictorError {
    /// There is too little to learn from.
    #[error("{found} usable measurements of distinct configurations are too few to train on; {needed} are needed")]
    TooFewRows {
        /// Distinct configurations that can be described, with a latency.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Nobody measured the metric.
    #[error("no row of the table has `{metric}`")]
    NeverMeasured {
        /// The metric.
        metric: Metric,
    },
    /// A table cannot be split as a protocol asks.
    #[error("protocol `{protocol}` needs {needed}; the table has {found}")]
    Unsplittable {
        /// The protocol.
        protocol: &'static str,
        /// What it needs at least.
        needed: String,
        /// What there is.
        found: usize,
    },
    /// A model or a device lacks what its features need.
    #[error("failed to compute features")]
    Features {
        /// What is missing.
        #[from]
        source: FeatureError,
    },
    /// XGBoost refused.
    #[error("failed to {action} the boosters for {metric}")]
    Booster {
        /// What was attempted.
        action: &'static str,
        /// For which metric.
        metric: Metric,
        /// What XGBoost says.
        source: XGBError,
    },
    /// A file or directory of the releases could not be read or written.
    #[error("failed to {action} `{}`", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No such release.
    #[error("there is no release `{release}` in `{}`", directory.display())]
    UnknownRelease {
        /// The release asked for.
        release: ReleaseId,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The file that names the current release does not name one.
    #[error("`{}` names no release: {reason}", path.display())]
    Current {
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        reason: String,
    },
    /// The manifest is not what this version writes.
    #[error("the manifest of release `{release}` cannot be read: {reason}")]
    Manifest {
        /// The release.
        release: ReleaseId,
        /// What is wrong.
        reason: String,
    },
    /// The manifest is of another form.
    #[error(
        "the manifest of release `{release}` has format version {found}; this Augur reads {supported}: train a new release"
    )]
    ManifestVersion {
        /// The release.
        release: ReleaseId,
        /// Its version.
        found: u64,
        /// The version that this program reads.
        supported: u64,
    },
    /// The release was trained on features of another schema.
    #[error(
        "release `{release}` was trained on feature schema {found}; this Augur computes {expected}: train a new release"
    )]
    FeatureSchema {
        /// The release.
        release: ReleaseId,
        /// The schema it was trained on.
        found: String,
        /// The schema of this program.
        expected: String,
    },
    /// There is no earlier release to go back to.
    #[error("there is no release to go back to in `{}`{}", directory.display(), of_current(current.as_ref()))]
    NothingBefore {
        /// The current release, if there is one.
        current: Option<ReleaseId>,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A metric was asked for that no row was measured of when the release was trained.
    #[error("`{metric}` was never trained; this release has {}", words(trained))]
    NeverTrained {
        /// The metric.
        metric: Metric,
        /// The metrics that can be predicted.
        trained: Vec<Metric>,
    },
    /// XGBoost's trees are not of the form that is read.
    #[error("the trees for {metric} cannot be read: {reason}")]
    Trees {
        /// For which metric.
        metric: Metric,
        /// What is wrong.
        reason: String,
    },
    /// Trees were asked with another number of features than they were trained on.
    #[error("trees that were trained on {needed} features were asked with {found}")]
    Columns {
        /// How many there were.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A file of the release is missing or was changed.
    #[error("release `{release}` is damaged: `{file}` {reason}")]
    Damaged {
        /// The release.
        release: ReleaseId,
        /// The file at fault.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn of_current(current: Option<&ReleaseId>) -> String {
    current.map_or_else(String::new, |current| format!(": `{current}` is current and took the place of none"))
}

fn words(metrics: &[Metric]) -> String {
    metrics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
