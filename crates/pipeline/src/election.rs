//! One active process of a stage, however many were started.

use std::time::Duration;

use broker::{AmqpUrl, BrokerError, Patience, SoleConsumer};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{PipelineError, worker::chain};

/// Wait before another session after one that the broker ended.
const SESSION_LOST_WAIT: Duration = Duration::from_secs(1);

/// Runs `session` while this process is the active one of `stage` (the single active consumer of `queue`), again
/// whenever it becomes so again, until `stop`. Each session has a token that fires when it has to end.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time or it lacks the queue, and what a session returns; later than
/// in the first session a broker that is not there is waited for.
pub(crate) async fn while_active<S>(
    url: &AmqpUrl,
    (stage, queue): (&'static str, &'static str),
    patience: Patience,
    stop: &CancellationToken,
    mut session: impl FnMut(CancellationToken) -> S,
) -> Result<(), PipelineError>
where
    S: Future<Output = Result<(), PipelineError>>,
{
    let mut is_first = true;
    loop {
        let patience = if is_first { patience } else { Patience::Endless };
        let active = match SoleConsumer::acquire(url, queue, &format!("augur {stage} leader"), patience, stop).await {
            Ok(active) => active,
            Err(BrokerError::Closed) => return Ok(()),
            Err(error) if error.is_transient() && !is_first => {
                warn!(stage, error = %chain(&error), "leadership could not be asked for; asking again");
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(SESSION_LOST_WAIT) => continue,
                }
            }
            Err(error) => return Err(PipelineError::broker(stage)(error)),
        };
        let session_stop = stop.child_token();
        let mut running = std::pin::pin!(session(session_stop.clone()));
        let (ended, is_lost) = tokio::select! {
            ended = &mut running => (ended, false),
            () = active.lost() => {
                info!(stage, "another process may be the active one now");
                session_stop.cancel();
                (running.await, true)
            }
        };
        match ended {
            Ok(()) if is_lost => {}
            // Whatever a session says that was told to end while it began.
            Err(error) if stop.is_cancelled() => {
                info!(stage, error = %chain(&error), "session ended by the stop");
                return Ok(());
            }
            // A session that has to end while it begins fails with whatever it was at.
            Err(error) if is_lost || (error.is_transient() && !is_first) => {
                warn!(stage, error = %chain(&error), "session ended; another follows");
            }
            ended => return ended,
        }
        is_first = false;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(SESSION_LOST_WAIT) => {}
        }
    }
}
