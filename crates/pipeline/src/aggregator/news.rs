//! News that are no results: signs of life, releases.

use broker::{Settlement, Subscription};
use messages::Message;
use store::{Store, StoreError};
use tokio::sync::watch;
use tracing::warn;

use super::blocking;
use crate::worker::chain;

/// Passes what a subscription tells to `hear`, then keeps it in the database, until the subscription ends.
pub(super) async fn keep<M: Message + Send + 'static>(
    mut news: Subscription,
    store: Store,
    changes: watch::Sender<u64>,
    hear: impl Fn(&M),
    keep: fn(&Store, &M) -> Result<(), StoreError>,
) {
    while let Some(delivery) = news.next().await {
        match delivery.decode::<M>() {
            Ok(message) => {
                hear(&message);
                let store = store.clone();
                match blocking(move || keep(&store, &message)).await {
                    Ok(()) => changes.send_modify(|version| *version += 1),
                    Err(error) => warn!(error = %chain(&error), news = M::TYPE, "news was not kept"),
                }
            }
            Err(error) => warn!(error = %chain(&error), news = M::TYPE, "news does not decode"),
        }
        if let Err(error) = delivery.settle(Settlement::Done).await {
            warn!(%error, news = M::TYPE, "news could not be acked");
        }
    }
}
