//! `augur predictor train|predict|evaluate|list|show|wait|promote|rollback|drift`.

mod drawing;
mod drift;
mod evaluate;
pub(crate) mod predict;
mod releases;
mod train;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use broker::{BrokerError, Settlement, Start, Subscription};
use clap::Subcommand;
use messages::ReleaseId;
use predictors::Releases;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, exit::Exit, output};

#[derive(Debug, Subcommand)]
pub(crate) enum PredictorCommand {
    /// Trains predictors on measurement tables and makes them the current release.
    #[command(
        after_help = "Example: augur predictor train --input measurements.csv.gz --devices devices.csv --operators operators.jsonl.gz --metrics latency_ms"
    )]
    Train(train::TrainArguments),
    /// Predicts configurations, each with its 90 % interval.
    ///
    /// A release is asked about the devices that it learned from, those of a device table, or this machine's.
    #[command(
        after_help = "Examples: augur predictor predict --model resnet50 --platforms cpu --batch-sizes 1,2,4 --threads 1,2\n          \
                      augur predictor predict --model vit_base_patch16_224 --devices 'NVIDIA GeForce RTX 4090,NVIDIA L4' --device-table devices.csv --batch-sizes 64,256\n          \
                      augur predictor predict --model resnet50,vit_base_patch16_224 --devices 'NVIDIA L4,NVIDIA GeForce RTX 4090' --plot models.svg\n          \
                      augur predictor predict --model my.onnx --devices 'NVIDIA GeForce RTX 3090' --batch-sizes 128"
    )]
    Predict(Box<predict::PredictArguments>),
    /// Holds predictors against measurement tables: error, coverage and ranking.
    #[command(
        after_help = "Example: augur predictor evaluate --input measurements.csv.gz --devices devices.csv --operators operators.jsonl.gz --protocol leave-family-out --output report.json"
    )]
    Evaluate(evaluate::EvaluateArguments),
    /// Lists releases, the oldest first.
    #[command(after_help = "Example: augur predictor list")]
    List(releases::ListArguments),
    /// Shows a release and its evaluation, or compares it with another.
    #[command(after_help = "Examples: augur predictor show r000003-1f2e3d4c\n          \
                            augur predictor show r000003-1f2e3d4c --against r000002-0a1b2c3d")]
    Show(releases::ShowArguments),
    /// Waits until enough measurements were made a release of, and prints the current one's name.
    #[command(after_help = "Example: augur predictor wait --rows 60 --timeout-s 60")]
    Wait {
        /// Measurements that a release must have come of. Some were held back to judge it, and if it was worse than the
        /// release before, that one is still current.
        #[arg(long)]
        rows: u32,
        /// Gives up after this long, in seconds.
        #[arg(long, default_value_t = 60)]
        timeout_s: u64,
        #[arg(long)]
        releases: Option<PathBuf>,
    },
    /// Makes a release the current one.
    #[command(after_help = "Example: augur predictor promote r000002-0a1b2c3d")]
    Promote(releases::PromoteArguments),
    /// Makes the release current again that the current one took the place of.
    #[command(after_help = "Example: augur predictor rollback")]
    Rollback(releases::RollbackArguments),
    /// Shows how well predictions held against what jobs measured later, over time; exit 1 if a group got worse.
    #[command(after_help = "Example: augur predictor drift --metric latency_ms")]
    Drift(drift::DriftArguments),
}

pub(crate) async fn run(command: PredictorCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        PredictorCommand::Train(arguments) => train::run(&arguments, context)?,
        PredictorCommand::Predict(arguments) => predict::run(&arguments, context)?,
        PredictorCommand::Evaluate(arguments) => evaluate::run(&arguments)?,
        PredictorCommand::List(arguments) => releases::list(&arguments, context)?,
        PredictorCommand::Show(arguments) => releases::show(&arguments, context)?,
        PredictorCommand::Wait { rows, timeout_s, releases } => {
            let releases = releases::open(context, releases.as_deref())?;
            let release =
                tokio::time::timeout(Duration::from_secs(timeout_s), wait(context, &releases, rows))
                    .await
                    .with_context(|| format!("no release was trained on {rows} measurements within {timeout_s} s"))??;
            output::print(&release.to_string())?;
        }
        PredictorCommand::Promote(arguments) => releases::promote(&arguments, context)?,
        PredictorCommand::Rollback(arguments) => releases::rollback(&arguments, context)?,
        PredictorCommand::Drift(arguments) => return drift::run(&arguments, context).await,
    }
    Ok(Exit::Done)
}

/// Looks at the current release, again whenever there is news of one.
async fn wait(context: &Context, releases: &Releases, rows: u32) -> anyhow::Result<ReleaseId> {
    let stop = CancellationToken::new();
    let _stop_in_the_end = stop.clone().drop_guard();
    let url = context.amqp_url()?;
    let mut news = Subscription::start(
        &url,
        "augur predictor wait",
        topology::names::RELEASES,
        Start::StreamNext,
        1,
        Context::command_patience(),
        &stop,
    )
    .await?;
    loop {
        // Some of the rows that a release has seen were held back to judge it; one that failed is a candidate. One that
        // somebody trained by hand says nothing of how far the updater is.
        let updates = releases.list()?.into_iter().flatten().filter_map(|manifest| manifest.update);
        let most = updates.map(|update| update.table_rows).max();
        if let Some(current) = releases.current_id()?.filter(|_| most.is_some_and(|most| most >= rows)) {
            return Ok(current);
        }
        news.next().await.ok_or(BrokerError::Closed)?.settle(Settlement::Done).await?;
    }
}
