//! The parts of `make bench-pipeline` that speak AMQP; `deploy/bench-pipeline/bench.py` calls them.
//!
//! ```text
//! pipeline_bench node                          runs a private broker, prints its URL, ends with its stdin
//! pipeline_bench SIDE publish COUNT            publishes with confirms; prints seconds
//! pipeline_bench SIDE consume COUNT ACKS       consumes and acks; prints seconds
//! pipeline_bench bare read LAST_OFFSET         reads the results stream from its first message; prints messages
//! pipeline_bench ours pace COUNT PER_S         submits no-op jobs at a rate; prints the run's id
//! ```
//!
//! SIDE is `bare` (lapin alone, nothing of this crate) or `ours` (this crate's `Publisher` and `Subscription`); ACKS
//! is `each` or `multiple`. The broker is `AUGUR_AMQP_URL`, with Augur's queues. What both sides must have in common
//! is here.

mod bare;
mod ours;

use std::{error::Error, io::Read, time::Duration};

use broker::PrivateNode;

/// The lane that both sides fill and empty: a quorum queue that no worker of the benchmark consumes.
const EXCHANGE: &str = "jobs";
const ROUTING_KEY: &str = "wasm.low";
const LANE: &str = "jobs.wasm.low";
/// The body of every message.
const BODY: &[u8] = &[0x5a; 200];
/// Messages without a confirm at any moment.
const WINDOW: usize = broker::WINDOW_MESSAGES_MAX;
/// Deliveries without an ack at any moment.
const PREFETCH: u16 = 1_000;
/// Deliveries per ack where one ack settles many: RabbitMQ's advice is a tenth of the prefetch.
const ACK_EVERY_MESSAGES: usize = 100;
/// The same two for reading a stream, as `augur result replay` has them.
const STREAM_PREFETCH: u16 = 4_000;
const STREAM_ACK_EVERY_MESSAGES: usize = 500;

/// How a consumer acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    /// Each delivery by itself, as a worker must, whose jobs end in any order.
    Each,
    /// One for many, in order.
    Multiple,
}

type Answer<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments == ["node"] {
        return tokio::task::block_in_place(node);
    }
    let url = std::env::var("AUGUR_AMQP_URL")?;
    match arguments[..] {
        ["bare", "publish", count] => print_seconds(bare::publish(&url, count.parse()?).await?),
        ["ours", "publish", count] => print_seconds(ours::publish(&url.parse()?, count.parse()?).await?),
        ["bare", "consume", count, acks] => {
            print_seconds(bare::consume(&url, count.parse()?, parse_acks(acks)?).await?);
        }
        ["ours", "consume", count, acks] => {
            print_seconds(ours::consume(&url.parse()?, count.parse()?, parse_acks(acks)?).await?);
        }
        ["bare", "read", last_offset] => println!("{}", bare::read(&url, last_offset.parse()?).await?),
        ["ours", "pace", count, per_s] => {
            println!("{}", ours::pace(&url.parse()?, count.parse()?, per_s.parse()?).await?);
        }
        _ => return Err(format!("no such part: {arguments:?}; the source says which there are").into()),
    }
    Ok(())
}

fn parse_acks(word: &str) -> Answer<Acks> {
    match word {
        "each" => Ok(Acks::Each),
        "multiple" => Ok(Acks::Multiple),
        _ => Err(format!("acks are `each` or `multiple`, not `{word}`").into()),
    }
}

fn print_seconds(duration: Duration) {
    println!("{}", duration.as_secs_f64());
}

/// Runs a private node until stdin is closed, so that it ends with its caller, however that ends.
fn node() -> Answer<()> {
    let node = PrivateNode::start()?;
    println!("{}", node.url());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
