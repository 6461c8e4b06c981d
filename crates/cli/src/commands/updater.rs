//! `augur updater start`.

use std::{path::PathBuf, time::Duration};

use anyhow::anyhow;
use clap::Subcommand;
use pipeline::UpdaterSettings;
use predictors::{TrainSettings, UpdateStrategy};

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
        strategy: strategy(&section.strategy)?,
        train: TrainSettings { rounds: section.rounds, ensemble: section.ensemble, ..TrainSettings::default() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        patience: context.daemon_patience(),
    };
    let url = context.amqp_url()?;
    pipeline::update(&url, settings, shutdown::token()?).await?;
    Ok(Exit::Done)
}

/// A word of the settings; `None` where the updater is to choose.
fn strategy(word: &str) -> anyhow::Result<Option<UpdateStrategy>> {
    if word == "auto" {
        return Ok(None);
    }
    let strategy = word.parse().map_err(|error| anyhow!("updater.strategy: {error}; or `auto`"))?;
    Ok(Some(strategy))
}
