//! Whether workers can say that they live: not while the broker has an alarm and blocks whoever publishes.

use std::{sync::Arc, time::Duration};

use broker::{Outgoing, Publisher};
use messages::Encoded;
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{info, warn};

use super::Leases;

/// Between two looks. An alarm of that length is too short to make a lease lapse: a quarter of it is spare.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the leases of alarms, until `stop`.
///
/// RabbitMQ tells of an alarm only whoever publishes. So something is published again and again while leases are held:
/// to the queue by which the aggregator is elected, where it means nothing and is settled at once.
pub(in crate::aggregator) async fn listen(leases: Arc<Leases>, publisher: Publisher, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        if leases.lock().is_empty() {
            leases.set_open(true);
            continue;
        }
        let publishing = publisher.publish(sign());
        tokio::pin!(publishing);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                sent = &mut publishing => {
                    if let Err(error) = sent {
                        warn!(%error, "it is not known whether the broker has an alarm");
                    }
                    break;
                }
                _ = looks.tick() => note(&leases, publisher.is_blocked()),
            }
        }
        note(&leases, publisher.is_blocked());
    }
}

fn note(leases: &Leases, is_blocked: bool) {
    if leases.set_open(!is_blocked) {
        if is_blocked {
            warn!("the broker has an alarm and lets no worker be heard; no lease lapses");
        } else {
            info!("the broker takes messages again; all leases begin anew");
        }
    }
}

fn sign() -> Outgoing {
    let queue = names::AGGREGATOR_LEADER;
    // A body may not be empty: RabbitMQ before 3.10.14 spoils such messages.
    Outgoing::new("", queue, queue, Encoded { message_type: "token", schema_version: 1, body: vec![1] })
}
