//! `augur aggregator start`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use dashboard::{ApiState, Forecaster};
use pipeline::AggregatorSettings;
use store::Store;
use tokio::{net::TcpListener, sync::watch};
use tracing::info;

use crate::{context::Context, exit::Exit, shutdown};

/// What full batches and a backlog of a million were tried with.
const DATABASE_MEMORY_MB_MIN: u32 = 128;

#[derive(Debug, Subcommand)]
pub(crate) enum AggregatorCommand {
    /// Reads results into the database and serves HTTP API and dashboard until SIGTERM.
    #[command(after_help = "Example: augur aggregator start --db augur.duckdb --listen 127.0.0.1:7878")]
    Start {
        /// The database; made if it is not there. Not given: `augur.duckdb` in the state directory.
        #[arg(long)]
        db: Option<PathBuf>,
        /// Where to listen; overrides `aggregator.listen`.
        #[arg(long)]
        listen: Option<String>,
        /// Where the updater keeps the releases that `/api/predict` asks. Not given: `releases` in the state directory.
        #[arg(long)]
        releases: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: AggregatorCommand, context: &Context) -> anyhow::Result<Exit> {
    let AggregatorCommand::Start { db, listen, releases } = command;
    let url = context.amqp_url()?;
    let section = &context.loaded.settings.aggregator;
    let db = context.database(db)?;
    let memory_mb = section.database_memory_mb;
    ensure!(
        memory_mb >= DATABASE_MEMORY_MB_MIN,
        "`aggregator.database_memory_mb` is {memory_mb}; {DATABASE_MEMORY_MB_MIN} are needed"
    );
    let store = tokio::task::block_in_place(|| Store::open_within(&db, memory_mb))
        .with_context(|| format!("failed to open database {}", db.display()))?;
    let listen = listen.unwrap_or_else(|| section.listen.clone());
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("failed to listen on {listen}"))?;
    let address = listener.local_addr()?;
    let stop = shutdown::token()?;
    let (changes, watching) = watch::channel(0);
    let forecaster = Forecaster::open(&context.releases_directory(releases.as_deref())?)?;
    let state = ApiState { store: store.clone(), changes: watching, forecaster };
    let serving = tokio::spawn(dashboard::serve(listener, state, stop.clone().cancelled_owned()));
    info!(db = %db.display(), "dashboard and HTTP API at http://{address}/");
    let settings = AggregatorSettings {
        batch_messages_max: section.batch_messages_max.max(1),
        batch_wait_max: Duration::from_millis(section.batch_wait_ms),
        patience: context.daemon_patience(),
    };
    let aggregated = pipeline::aggregate(&url, store, settings, changes, stop.clone()).await;
    stop.cancel();
    serving.await?.context("the HTTP API failed")?;
    aggregated?;
    Ok(Exit::Done)
}
