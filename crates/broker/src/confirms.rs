//! Which published messages the broker stored, and which it returned.
//!
//! RabbitMQ returns an unroutable message and then acks it, often together with others in one ack. lapin hands a
//! returned message out with whichever confirm it settles next, and settles those of one ack in no order: a confirm
//! may carry another message's return. So returns are told apart here, by the message that came back.

use std::collections::HashMap;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{Channel, Confirmation, message::BasicReturnMessage};

use crate::{BrokerError, Outgoing, publish::Request};

/// A request and what its channel said of it.
pub(crate) type Confirmed = (Request, lapin::Result<Confirmation>);

/// Everything that is confirmed by now, `first` included.
///
/// A message may only be answered together with all that were confirmed before it and by the same ack: one of them
/// may carry its return.
pub(crate) fn all_confirmed<F: Future<Output = Confirmed>>(
    channel: &Channel,
    first: Confirmed,
    in_flight: &mut FuturesUnordered<F>,
) -> Vec<Confirmed> {
    let mut confirmed = vec![first];
    loop {
        // lapin settles all confirms of one ack under a lock that this call takes: after it, none is half done.
        drop(channel.wait_for_confirms().now_or_never());
        let known = confirmed.len();
        confirmed.extend(std::iter::from_fn(|| in_flight.next().now_or_never().flatten()));
        if confirmed.len() == known {
            return confirmed;
        }
    }
}

/// What came back on one channel and has not been told to its publisher yet: what the broker said, by message.
#[derive(Default)]
pub(crate) struct Confirms {
    returned: HashMap<MessageKey, Vec<String>>,
    has_returned: bool,
}

/// Exchange, routing key and message id.
type MessageKey = (String, String, String);

impl Confirms {
    /// Answers what the broker confirmed, and gives back the requests whose confirm was lost with the channel.
    pub(crate) fn answer(&mut self, confirmed: Vec<Confirmed>) -> Vec<(Request, lapin::Error)> {
        let mut settled = Vec::with_capacity(confirmed.len());
        let mut lost = Vec::new();
        for (request, confirmation) in confirmed {
            match confirmation {
                Ok(Confirmation::Ack(returned)) => {
                    self.note(returned);
                    settled.push((request, true));
                }
                Ok(Confirmation::Nack(returned)) => {
                    self.note(returned);
                    settled.push((request, false));
                }
                Ok(Confirmation::NotRequested) => unreachable!("every channel here is in confirm mode"),
                Err(error) => lost.push((request, error)),
            }
        }
        for (request, is_stored) in settled {
            let reply = self.take(&request.outgoing);
            match (reply, is_stored) {
                (Some(reply), _) => {
                    let Outgoing { exchange, routing_key, .. } = &request.outgoing;
                    let (exchange, routing_key) = (exchange.clone(), routing_key.clone());
                    request.failed(BrokerError::Unroutable { exchange, routing_key, reply });
                }
                (None, true) => request.stored(),
                (None, false) => request.refused(),
            }
        }
        lost
    }

    /// Whether anything has come back.
    pub(crate) fn has_returned(&self) -> bool {
        self.has_returned
    }

    fn note(&mut self, returned: Option<BasicReturnMessage>) {
        let Some(returned) = returned else { return };
        self.has_returned = true;
        let delivery = &returned.delivery;
        let id = delivery.properties.message_id().as_ref().map_or("", |id| id.as_str());
        let key = (delivery.exchange.to_string(), delivery.routing_key.to_string(), id.to_owned());
        self.returned.entry(key).or_default().push(returned.reply_text.to_string());
    }

    fn take(&mut self, outgoing: &Outgoing) -> Option<String> {
        if self.returned.is_empty() {
            return None;
        }
        let key = (outgoing.exchange.clone(), outgoing.routing_key.clone(), outgoing.message_id.clone());
        let replies = self.returned.get_mut(&key)?;
        let reply = replies.pop();
        if replies.is_empty() {
            self.returned.remove(&key);
        }
        reply
    }
}
