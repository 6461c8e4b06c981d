//! The news of releases: each is told at least once, also if the updater dies between its making and its telling.

use std::path::Path;

use broker::Outgoing;
use messages::encode;
use predictors::{Manifest, Update};
use topology::names;
use tracing::{info, warn};

use super::{
    Updater,
    files::{load_announced, save_announced},
};
use crate::PipelineError;

impl Updater {
    /// Tells everyone of a release; of a candidate too: whoever waits for what comes of some measurements need not wait
    /// longer.
    pub(super) async fn announce(&self, manifest: &Manifest) -> Result<(), PipelineError> {
        let release_id = &manifest.release_id;
        if let Some(Update { strategy, reason, is_promoted, .. }) = &manifest.update {
            info!(%release_id, training_rows = manifest.training_rows, %strategy, is_promoted, %reason, "release made");
        }
        let message = encode(&manifest.to_published())?;
        let outgoing = Outgoing::new(names::RELEASES, String::new(), release_id.to_string(), message);
        match self.publisher.publish(outgoing).await {
            Ok(()) => save_announced(self.directory(), release_id),
            Err(error) => {
                warn!(%error, "the release is on disk, but its news was not published");
                Ok(())
            }
        }
    }

    /// Tells of the last release if nobody is known to have heard of it.
    pub(super) async fn announce_last(&self) -> Result<(), PipelineError> {
        let listed = self.releases.list().map_err(PipelineError::predictors("updater"))?;
        let last = listed.into_iter().flatten().rfind(|manifest| manifest.update.is_some());
        match last {
            Some(manifest) if load_announced(self.directory())?.as_ref() != Some(&manifest.release_id) => {
                self.announce(&manifest).await
            }
            _ => Ok(()),
        }
    }

    fn directory(&self) -> &Path {
        &self.settings.releases_directory
    }
}
