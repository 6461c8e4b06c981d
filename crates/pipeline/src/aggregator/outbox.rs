//! The outbox: accepted measurements on their way from the database to their stream.

use std::{sync::Arc, time::Duration};

use broker::{Outgoing, Publisher, WINDOW_MESSAGES_MAX};
use futures_util::{StreamExt, stream};
use messages::{AcceptedMeasurement, Encoded, Message};
use store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::warn;

use super::blocking;
use crate::{PipelineError, worker::chain};

/// Wait before the outbox is tried again after the broker refused a measurement.
const OUTBOX_REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Publishes the outbox whenever there is something in it.
pub(super) async fn feed(store: Store, publisher: Publisher, filled: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = filled.notified() => {}
        }
        while !stop.is_cancelled() {
            match feed_batch(&store, &publisher).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    warn!(error = %chain(&error), "outbox was not published; trying again");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(OUTBOX_REFUSED_WAIT) => {}
                    }
                }
            }
        }
    }
}

/// Publishes the oldest rows of the outbox and deletes those that the broker confirmed; returns how many.
async fn feed_batch(store: &Store, publisher: &Publisher) -> Result<usize, PipelineError> {
    let reading = store.clone();
    let rows = blocking(move || reading.outbox_batch(WINDOW_MESSAGES_MAX)).await?;
    let publishing = rows.into_iter().map(|row| async move {
        let message =
            Encoded { message_type: AcceptedMeasurement::TYPE, schema_version: row.schema_version, body: row.body };
        let outgoing = Outgoing::new(names::MEASUREMENTS, String::new(), row.id.to_string(), message);
        publisher.publish(outgoing).await.map(|()| row.id)
    });
    let mut answers = stream::iter(publishing).buffer_unordered(WINDOW_MESSAGES_MAX);
    let (mut confirmed, mut failure) = (Vec::new(), None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(id) => confirmed.push(id),
            Err(error) => failure = Some(error),
        }
    }
    let count = confirmed.len();
    if count > 0 {
        let deleting = store.clone();
        blocking(move || deleting.outbox_delete(&confirmed)).await?;
    }
    failure.map_or(Ok(count), |source| Err(PipelineError::Broker { stage: "aggregator", source }))
}
