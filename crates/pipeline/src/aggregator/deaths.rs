//! Dead letters that came without a reason of ours, such as those that the broker made by itself: the result stream is
//! told of them, since nobody else is left to.

use std::time::Duration;

use broker::{Delivery, Outgoing, Publisher, Settlement, Subscription};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{dead_letters::DeadLetter, delivery::outgoing_record, worker::chain};

/// Wait before news is published again that the broker refused.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Tells the result stream of each letter that nobody has told of, until the subscription ends or `stop`.
///
/// A letter is settled once its news is confirmed; told twice, it counts once.
pub(super) async fn tell(mut letters: Subscription, publisher: Publisher, stop: CancellationToken) {
    while let Some(delivery) = letters.next().await {
        if let Some(news) = news(&delivery) {
            while let Err(error) = publisher.publish(news.clone()).await {
                warn!(message_id = news.message_id, %error, "news of a dead letter was not stored; publishing it again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(REFUSED_WAIT) => {}
                }
            }
        }
        if let Err(error) = delivery.settle(Settlement::Done).await {
            warn!(%error, "news of a dead letter could not be acked");
        }
    }
}

/// What is to be told of a letter; `None` if whoever sent it has told already, or if nothing can be told.
fn news(delivery: &Delivery) -> Option<Outgoing> {
    if delivery.reason().is_some() {
        return None;
    }
    let letter = DeadLetter::of(delivery);
    let Some(news) = letter.news() else {
        warn!(message_id = letter.message_id, reason = letter.reason, "a dead letter does not say whose job it is");
        return None;
    };
    warn!(job_id = %news.job_id, run_id = %news.run_id, reason = news.reason, "a job became a dead letter");
    match outgoing_record(news.job_id.to_string(), &news) {
        Ok(outgoing) => Some(outgoing.attempt(news.attempt)),
        Err(error) => {
            warn!(job_id = %news.job_id, error = %chain(&error), "news of a dead letter cannot be sent");
            None
        }
    }
}
