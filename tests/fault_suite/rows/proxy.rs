//! A network that resets connections, swallows everything for a while, or is slow.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use broker::AmqpUrl;
use testkit::{PrivateNodeOptions, TcpProxy};

use crate::{
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    world::Broker,
};

/// How long the network swallows everything: well past everybody's patience, since AMQP's heartbeats of 10 s notice
/// after two.
const BLACK_HOLE_FULL: Duration = Duration::from_secs(90);
/// The same at quick size, with [`QUICK_OPTIONS`]: it, too, outlasts two heartbeats and an attempt to connect.
const BLACK_HOLE_QUICK: Duration = Duration::from_secs(7);
/// Options of the quick size's URLs: heartbeats in seconds, and an attempt to connect in milliseconds.
const QUICK_OPTIONS: &str = "?heartbeat=2&connection_timeout=2000";
/// How much later everything arrives.
const DELAY: Duration = Duration::from_millis(200);
/// For how long, at most.
const DELAYED_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let broker = Broker::own(trial, PrivateNodeOptions::default())?;
    let proxy = TcpProxy::start_at(broker.port().context("the node has no port")?)?;
    let direct: AmqpUrl = format!("{}{}", broker.url(), trial.pick("", QUICK_OPTIONS)).parse()?;
    let through = Some(proxy.url_through(&direct).reveal());
    let mut rig = Rig::new(trial, broker, Setup { through, ..Setup::default() })?;
    rig.under_load(trial, |rig, number| {
        let began = Instant::now();
        match number % 3 {
            0 => {
                rig.progress.note_fault();
                proxy.reset_all();
            }
            1 => {
                proxy.black_hole(true);
                rig.progress.note_lasting_fault(began);
                thread::sleep(trial.pick(BLACK_HOLE_FULL, BLACK_HOLE_QUICK));
                proxy.black_hole(false);
            }
            _ => {
                rig.progress.note_fault();
                proxy.delay(DELAY);
                rig.pause(DELAYED_MAX);
                proxy.delay(Duration::ZERO);
            }
        }
        rig.recover_after_odd(number)
    })?;
    ensure_faults(rig.finish()?)
}
