//! What a worker hears and says beside its jobs: cancel orders, signs of life.

use std::{sync::Arc, time::Duration};

use broker::{Outgoing, Publisher, Settlement, Subscription};
use messages::{Cancel, encode};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::warn;

use super::{chain, settle, state::WorkerState};

/// Longest time between heartbeats; a short lease makes them more frequent.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Heartbeats that fit into a lease, so that one or two may be lost.
const HEARTBEATS_PER_LEASE: u32 = 4;
/// Looks in a lease's time at whether the broker blocks heartbeats. No lease lapses meanwhile, and afterwards each gets a
/// whole lease's time.
const LOOKS_PER_LEASE: u32 = 4;
/// The part of a lease that jobs go on for after the last look that found an alarm: a heartbeat that waited for its end
/// has a quarter of a lease at least to be confirmed. A connection that is lost while it is blocked shows up to 25 s
/// later, after two of AMQP's heartbeats: of a lease of 60 s enough is left then to end the jobs before others get them.
const SPARE_PER_LEASE: u32 = 2;

/// Follows cancel orders.
pub(super) async fn obey(mut control: Subscription, state: Arc<WorkerState>) {
    while let Some(delivery) = control.next().await {
        match delivery.decode::<Cancel>() {
            Ok(cancel) => state.cancel(cancel.target),
            Err(error) => warn!(error = %chain(&error), "control message does not decode"),
        }
        settle(delivery, Settlement::Done).await;
    }
}

/// Publishes signs of life, and ends leased jobs whose lease they could not renew in time; not while the broker has an
/// alarm and lets nobody publish, for then whoever keeps the leases hears nobody.
pub(super) async fn beat(publisher: Publisher, state: Arc<WorkerState>, lease: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(HEARTBEAT_EVERY.min(lease / HEARTBEATS_PER_LEASE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut confirmed_at = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let heartbeat = state.heartbeat();
        let worker_id = heartbeat.worker_id.to_string();
        let message = match encode(&heartbeat) {
            Ok(message) => message,
            Err(error) => {
                warn!(%error, "heartbeat cannot be sent");
                continue;
            }
        };
        let mut began = Instant::now();
        let sending = publisher.publish(Outgoing::new(names::HEARTBEATS, String::new(), worker_id, message));
        tokio::pin!(sending);
        // Whoever keeps the leases counts from the last sign of life that it got: later than this one was sent.
        let mut ends = confirmed_at + lease;
        loop {
            let look = ends.min(Instant::now() + lease / LOOKS_PER_LEASE);
            match tokio::time::timeout_at(look, &mut sending).await {
                Ok(Ok(())) => confirmed_at = began,
                Ok(Err(error)) => warn!(%error, "heartbeat was not sent"),
                Err(_) if publisher.is_blocked() => {
                    warn!("the broker takes no heartbeats because of an alarm; leased jobs go on");
                    // It is taken later than now, and so heard.
                    began = Instant::now();
                    ends = ends.max(began + lease / SPARE_PER_LEASE);
                    continue;
                }
                Err(_) if Instant::now() < ends => continue,
                Err(_) => {
                    if state.fence() > 0 {
                        warn!(
                            lease_s = lease.as_secs(),
                            "no heartbeat was confirmed for a lease's time; leased jobs end"
                        );
                    }
                    confirmed_at = Instant::now();
                }
            }
            break;
        }
    }
}
