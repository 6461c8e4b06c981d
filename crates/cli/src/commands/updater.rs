//! `augur updater start`.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use pipeline::UpdaterSettings;
use predictors::TrainSettings;

use crate::{context::Context, exit::Exit, shutdown};

#[derive(Debug, Subcommand)]
pub(crate) enum UpdaterCommand {
    /// Collects accepted measurements and trains releases until SIGTERM.
    #[command(after_help = "Example: augur updater start --releases releases/")]
    Start {
        /// Where releases are kept. Not given: `releases` in the state directory.
        #[arg(long)]
        releases: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: UpdaterCommand, context: &Context) -> anyhow::Result<Exit> {
    let UpdaterCommand::Start { releases } = command;
    let section = &context.loaded.settings.updater;
    let settings = UpdaterSettings {
        releases_directory: context.releases_directory(releases.as_deref())?,
        lease_directory: context.lease_directory()?,
        rows_new_min: section.rows_new_min.max(1),
        quiet: Duration::from_secs(section.quiet_s),
        train: TrainSettings { rounds: section.rounds, ensemble: section.ensemble, ..TrainSettings::default() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        patience: context.daemon_patience(),
    };
    let url = context.amqp_url()?;
    pipeline::update(&url, settings, shutdown::token()?).await?;
    Ok(Exit::Done)
}
