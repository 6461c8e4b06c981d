//! `augur job submit|show|cancel`.

mod show;
mod web;

use std::time::Duration;

use anyhow::bail;
use broker::Publisher;
use clap::{Args, Subcommand, ValueEnum};
use messages::{
    Backend, BenchmarkSpec, CancelTarget, Configuration, Device, Dispatch, JobId, Origin, Platform, Precision,
    Prediction, Priority, Status, TestSpec,
};
use pipeline::{Case, CaseSpec, RunContext, Submission, Suite, prediction_subject, resolve_shape};
use predictors::Releases;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    dispatching::{DispatchArguments, RequirementArguments},
    waiting,
};
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Publishes one job.
    #[command(
        after_help = "Examples:\n  augur job submit --kind benchmark --model resnet50 --batch-size 4 --threads 2 --wait\n  augur job submit --kind web --model mobilenet-v2 --platforms webgpu,wasm --browsers chromium,firefox --wait"
    )]
    Submit(Box<SubmitArguments>),
    /// Shows how a job ended, with its failed attempts, or what became of it so far.
    #[command(after_help = "Example: augur job show 0190b5a0-0000-7000-8000-000000000001")]
    Show {
        /// The job.
        job: JobId,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ends a job, running or still queued.
    #[command(after_help = "Example: augur job cancel 0190b5a0-0000-7000-8000-000000000001")]
    Cancel {
        /// The job.
        job: JobId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Benchmark,
    Test,
    Web,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArguments {
    /// What kind of job.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The model of a benchmark, native or in a browser.
    #[arg(long, required_if_eq_any([("kind", "benchmark"), ("kind", "web")]))]
    model: Option<String>,
    /// The runner profile of a test.
    #[arg(long, required_if_eq("kind", "test"))]
    profile: Option<String>,
    /// The test's module.
    #[arg(long)]
    module: Option<String>,
    /// The test's class.
    #[arg(long)]
    class: Option<String>,
    /// The test's method.
    #[arg(long)]
    method: Option<String>,
    /// The platform of a benchmark or a test.
    #[arg(long, default_value = "cpu")]
    platform: Platform,
    #[command(flatten)]
    browsing: web::BrowsingArguments,
    #[arg(long, default_value = "fp32")]
    precision: Precision,
    #[arg(long, default_value_t = 1)]
    batch_size: u32,
    #[arg(long)]
    sequence_length: Option<u32>,
    #[arg(long)]
    image_size: Option<u32>,
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Fewest timed iterations.
    #[arg(long)]
    iterations_min: Option<u32>,
    /// Most timed iterations.
    #[arg(long)]
    iterations_max: Option<u32>,
    #[arg(long, default_value = "normal")]
    priority: Priority,
    /// How long one attempt may take, in seconds.
    #[arg(long, default_value_t = 300)]
    timeout_s: u64,
    #[command(flatten)]
    dispatch: DispatchArguments,
    #[command(flatten)]
    requirements: RequirementArguments,
    /// Jobs with the same key are one job, in whichever run they are submitted; counted once.
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// Fails if the current release predicts nothing of the benchmark on this machine's device; else the job carries
    /// what it predicts if it can, to be held against what is measured.
    #[arg(long)]
    predict: bool,
    /// Leaves out what the current release predicts of the benchmark.
    #[arg(long, conflicts_with = "predict")]
    no_predict: bool,
    /// Waits for the job's end; exit 1 if it did not pass.
    #[arg(long)]
    wait: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) async fn run(command: JobCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        JobCommand::Submit(arguments) => submit(*arguments, context).await,
        JobCommand::Show { job, format } => show::show(job, format, context).await,
        JobCommand::Cancel { job } => {
            cancel(context, CancelTarget::Job(job)).await?;
            output::print(&format!("asked all workers to cancel job {job}"))?;
            Ok(Exit::Done)
        }
    }
}

/// Publishes a cancel order.
pub(crate) async fn cancel(context: &Context, target: CancelTarget) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let publisher = Publisher::start(&context.amqp_url()?, "augur cancel", Context::command_patience(), stop).await?;
    pipeline::cancel(&publisher, target).await?;
    Ok(())
}

async fn submit(arguments: SubmitArguments, context: &Context) -> anyhow::Result<Exit> {
    let url = context.amqp_url()?;
    let (name, spec) = match arguments.kind {
        Kind::Test => test(&arguments),
        Kind::Benchmark => tokio::task::block_in_place(|| benchmark(&arguments, context))?,
        Kind::Web => tokio::task::block_in_place(|| web::case(&arguments, context))?,
    };
    let mut requirements = arguments.requirements.requirements();
    if let CaseSpec::Web(web) = &spec {
        // What waits for its only browser is shown to wait for it.
        requirements.browser = requirements.browser.or_else(|| web.benchmark.configuration.browser.clone());
    }
    let case = Case {
        name,
        priority: arguments.priority,
        timeout: Duration::from_secs(arguments.timeout_s),
        attempts_max: arguments.dispatch.attempts.unwrap_or(Dispatch::ATTEMPTS_DEFAULT),
        requirements,
        unique_key: arguments.unique_key.clone(),
        spec,
    };
    let mut suite = Suite { name: "job".to_owned(), path: String::new(), cases: vec![case] };
    if !arguments.predict && !arguments.no_predict {
        suite = super::suite::predicted(suite, context).await?;
    }
    let run_context =
        RunContext { due_at: arguments.dispatch.due_at(), ..waiting::run_context("augur job submit".to_owned()) };
    let submission = Submission::new(suite, Origin::Client, run_context);
    let job_id = submission.jobs[0].job_id;
    let is_predicted = submission.jobs[0].spec.benchmark().is_some_and(|benchmark| benchmark.prediction.is_some());
    let endings = waiting::submit(context, &url, &submission, arguments.wait).await?;
    let ended = endings.results.first().map(|result| result.status().as_str());
    let status = ended.or_else(|| (!endings.dead.is_empty()).then_some(waiting::DEAD));
    let status = status.or_else(|| (endings.unreached > 0).then_some(Status::Cancelled.as_str()));
    match arguments.format {
        Format::Json => {
            let submitted = Submitted { job_id: job_id.to_string(), run_id: submission.run.run_id.to_string(), status };
            output::print(&serde_json::to_string_pretty(&submitted)?)?;
        }
        Format::Table => {
            waiting::print_failures(&endings)?;
            if is_predicted && arguments.wait {
                output::print(&waiting::predicted_against_measured(&endings.results).to_string())?;
            }
            output::print(&status.map_or_else(|| job_id.to_string(), |status| format!("job {job_id}: {status}")))?;
        }
    }
    Ok(if !arguments.wait || endings.passed() == 1 { Exit::Done } else { Exit::Unwelcome })
}

/// A submitted job; its status only if its end was waited for.
#[derive(Serialize)]
struct Submitted {
    job_id: String,
    run_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

/// The name of a test's case, and the test.
fn test(arguments: &SubmitArguments) -> (String, CaseSpec) {
    let profile = arguments.profile.clone().unwrap_or_default();
    let test = TestSpec {
        profile: profile.clone(),
        module: arguments.module.clone(),
        class: arguments.class.clone(),
        method: arguments.method.clone(),
    };
    (profile, CaseSpec::Test { platform: arguments.platform, test })
}

/// The name of a benchmark's case, and the benchmark.
fn benchmark(arguments: &SubmitArguments, context: &Context) -> anyhow::Result<(String, CaseSpec)> {
    let mut spec = measured(arguments, context, arguments.platform)?;
    if arguments.predict {
        let device = super::device::of_platform(context, arguments.platform)?;
        spec.prediction = Some(predicted(&spec.configuration, device, context)?);
    }
    Ok((spec.configuration.to_string(), CaseSpec::Benchmark(Box::new(spec))))
}

/// What is to be measured on a platform, and how.
fn measured(arguments: &SubmitArguments, context: &Context, platform: Platform) -> anyhow::Result<BenchmarkSpec> {
    let name = arguments.model.as_deref().unwrap_or_default();
    let mut configuration = Configuration {
        model: context.models()?.obtain(name, arguments.precision)?.model,
        platform,
        backend: if platform.is_web() { Backend::OrtWeb } else { Backend::Onnxruntime },
        precision: arguments.precision,
        batch_size: arguments.batch_size,
        sequence_length: arguments.sequence_length,
        image_size: arguments.image_size,
        threads: arguments.threads,
        browser: None,
    };
    resolve_shape(&mut configuration);
    configuration.validate()?;
    let mut spec = BenchmarkSpec::usual(configuration);
    spec.iterations_min = arguments.iterations_min.unwrap_or(spec.iterations_min);
    spec.iterations_max = arguments.iterations_max.unwrap_or(spec.iterations_max.max(spec.iterations_min));
    if spec.iterations_min == 0
        || !(spec.iterations_min..=BenchmarkSpec::ITERATIONS_LIMIT).contains(&spec.iterations_max)
    {
        bail!(
            "{} to {} iterations is no range within 1 to {}",
            spec.iterations_min,
            spec.iterations_max,
            BenchmarkSpec::ITERATIONS_LIMIT
        );
    }
    Ok(spec)
}

/// What the current release says of a configuration on a device.
fn predicted(configuration: &Configuration, device: Device, context: &Context) -> anyhow::Result<Prediction> {
    let release = Releases::open(&context.releases_directory(None)?)?.current()?;
    let Some(release) = release else { bail!("there is no release of predictors yet; leave --predict out") };
    let subject = prediction_subject(&context.models()?, configuration.clone(), device)?;
    let predicted = release.predictors.predict_subjects(std::slice::from_ref(&subject))?.remove(0);
    Ok(predicted.to_prediction(&release.manifest.release_id, &subject.device.name))
}
