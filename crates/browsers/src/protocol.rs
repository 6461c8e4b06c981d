//! What the pool and the page of a tab say to each other, in JSON: `page/page.js` and `page/worker.js` are the other
//! end, served by the same executable, so there are no versions here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a page is to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Measure, loading the model if this tab does not hold it.
    Run(RunCommand),
    /// Count the nodes that each provider gets.
    Verify(LoadCommand),
    /// Compute a tiny graph.
    Probe(ProbeCommand),
}

/// A model and what to run it with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LoadCommand {
    /// Names the request in reports.
    pub(crate) job: String,
    pub(crate) platform: &'static str,
    pub(crate) threads: u32,
    pub(crate) model: ModelLocation,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RunCommand {
    #[serde(flatten)]
    pub(crate) load: LoadCommand,
    pub(crate) inputs: Vec<InputLocation>,
    pub(crate) warmup_iterations: u32,
    /// Timed iterations before the first report of them.
    pub(crate) iterations_first: u32,
    pub(crate) keep_outputs: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProbeCommand {
    #[serde(flatten)]
    pub(crate) load: LoadCommand,
    /// The graph's input.
    pub(crate) x: &'static [f32],
    pub(crate) dims: [usize; 2],
}

/// Where the page finds a model, relative to the server's root.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelLocation {
    /// Equal for what may share a session.
    pub(crate) key: String,
    pub(crate) path: String,
}

/// Where the page finds an input tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct InputLocation {
    pub(crate) name: String,
    pub(crate) element: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) path: String,
}

/// What a page reports.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Report {
    /// A Worker has started.
    Ready {
        /// Whether threads are possible.
        isolated: bool,
    },
    /// A step begins.
    Phase { job: String, phase: String },
    /// Timed iterations since the last report; the answer is how many more.
    Iterations { job: String, ms: Vec<f64>, ended_ms: Vec<f64> },
    /// A run is over.
    Done(Done),
    /// A request came to nothing.
    Failed(Failed),
    /// Nodes by provider.
    Verified { job: String, nodes: BTreeMap<String, u32> },
    /// The tiny graph is computed.
    Probed(Probed),
    /// The Worker that verified or probed is gone.
    AsideEnded { job: String },
    /// An output tensor; does not travel as JSON.
    #[serde(skip)]
    Output { job: String, name: String, element: String, dims: Vec<usize>, bytes: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Done {
    pub(crate) job: String,
    pub(crate) fetch_ms: f64,
    pub(crate) session_ms: f64,
    pub(crate) first_run_ms: f64,
    pub(crate) total_ms: f64,
    pub(crate) backend_version: String,
    pub(crate) threads: u32,
    pub(crate) adapter: Option<AdapterReport>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Failed {
    /// `None` if a Worker failed without having anything to do.
    pub(crate) job: Option<String>,
    pub(crate) phase: String,
    pub(crate) cause: Cause,
    pub(crate) message: String,
}

/// Where a failure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// The GPU device is lost.
    DeviceLost,
    /// The browser does not have what the platform needs.
    Unavailable,
    /// The runtime does not take the model.
    Session,
    /// The runtime fails at running it.
    Run,
    /// The request itself.
    Job,
    /// The pool's server did not give something.
    Fetch,
    /// The page or its Worker.
    Page,
    /// The Worker died.
    Worker,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Probed {
    pub(crate) job: String,
    /// `None` is what JSON makes of a number that is none.
    pub(crate) computed: Vec<Option<f32>>,
    pub(crate) adapter: Option<AdapterReport>,
    pub(crate) took_ms: f64,
    pub(crate) threads: u32,
    pub(crate) backend_version: String,
}

/// A GPU adapter as the page describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct AdapterReport {
    vendor: String,
    architecture: String,
    device: String,
    description: String,
    is_fallback: bool,
    features: Vec<String>,
    limits: BTreeMap<String, f64>,
}

impl From<AdapterReport> for messages::Adapter {
    fn from(report: AdapterReport) -> Self {
        let AdapterReport { vendor, architecture, device, description, is_fallback, features, limits } = report;
        Self { vendor, architecture, device, description, is_fallback, features, limits }
    }
}

impl Report {
    /// Which request it is about, if it is about one.
    pub(crate) fn job(&self) -> Option<&str> {
        match self {
            Self::Ready { .. } => None,
            Self::Phase { job, .. }
            | Self::Iterations { job, .. }
            | Self::Verified { job, .. }
            | Self::AsideEnded { job }
            | Self::Output { job, .. } => Some(job),
            Self::Done(done) => Some(&done.job),
            Self::Failed(failed) => failed.job.as_deref(),
            Self::Probed(probed) => Some(&probed.job),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_as_the_page_reads_them() {
        let model = ModelLocation { key: "k".to_owned(), path: "models/k".to_owned() };
        let load = LoadCommand { job: "j1".to_owned(), platform: "wasm", threads: 2, model };
        let run = Command::Run(RunCommand {
            load,
            inputs: Vec::new(),
            warmup_iterations: 1,
            iterations_first: 5,
            keep_outputs: false,
        });
        let expected = json!({
            "kind": "run", "job": "j1", "platform": "wasm", "threads": 2,
            "model": { "key": "k", "path": "models/k" },
            "inputs": [], "warmup_iterations": 1, "iterations_first": 5, "keep_outputs": false,
        });
        assert_eq!(serde_json::to_value(run).expect("JSON"), expected);
    }

    #[test]
    fn reports_are_read_as_the_page_writes_them() {
        let check = |text: &str, job: Option<&str>| {
            let report: Report = serde_json::from_str(text).expect(text);
            assert_eq!(report.job(), job);
        };
        check(r#"{"kind":"ready","isolated":true,"user_agent":"x"}"#, None);
        check(r#"{"kind":"phase","job":"j1","phase":"fetch"}"#, Some("j1"));
        check(r#"{"kind":"failed","job":null,"phase":"worker","cause":"worker","message":"x"}"#, None);
        check(r#"{"kind":"aside-ended","job":"j1"}"#, Some("j1"));
    }
}
