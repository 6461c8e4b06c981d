//! Cancel orders given again: the stream by which workers hear of them forgets them within an hour or so, and a job may
//! lie in its queue or in the delay lanes for much longer.

use std::time::Duration;

use broker::{Outgoing, Publisher};
use messages::{Timestamp, encode};
use store::Store;
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{info, warn};

use super::blocking;
use crate::{PipelineError, worker::chain};

/// Several times within the hour for which the stream keeps an order at least, so that every worker that starts reads it.
const REPEAT_EVERY: Duration = Duration::from_mins(20);
/// The first wait; the next ones double. What came while no aggregator ran is read by then, and given after it.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// Age of an order up to which it is given again, in microseconds: a year, as jobs may be due so far ahead, and a month
/// for them to be run.
const AGE_US_MAX: i64 = (365 + 31) * 24 * 60 * 60 * 1_000_000;
/// Orders given again at most, the newest: they are a few hundred bytes each, and workers remember ten times as many.
const REPEATED_MAX: usize = 10_000;

/// Gives again what somebody may still have to obey: at once, and then again and again until `stop`.
pub(super) async fn repeat(store: Store, publisher: Publisher, stop: CancellationToken) {
    let mut wait = FIRST_WAIT;
    loop {
        match stop.run_until_cancelled(give(&store, &publisher)).await {
            Some(Ok(0)) | None => {}
            Some(Ok(orders)) => info!(orders, "cancel orders are given again"),
            Some(Err(error)) => warn!(error = %chain(&error), "cancel orders were not given again"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        wait = REPEAT_EVERY.min(wait * 2);
    }
}

async fn give(store: &Store, publisher: &Publisher) -> Result<usize, PipelineError> {
    let since = Timestamp::from_micros(Timestamp::now().as_micros() - AGE_US_MAX);
    let reading = store.clone();
    let orders = blocking(move || reading.open_cancels(since, REPEATED_MAX)).await?;
    for order in &orders {
        let message_id = uuid::Uuid::now_v7().to_string();
        let outgoing = Outgoing::new(names::CONTROL, String::new(), message_id, encode(order)?);
        publisher.publish(outgoing).await.map_err(PipelineError::broker("aggregator"))?;
    }
    Ok(orders.len())
}
