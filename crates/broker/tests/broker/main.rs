//! This crate against a real RabbitMQ: one node for all tests, a virtual host for each; own nodes where one dies.

#![expect(clippy::unwrap_used, reason = "tests")]

mod browsing;
mod connecting;
mod declaring;
mod electing;
mod failing_over;
mod pausing;
mod proxied;
mod publishing;
mod reconnecting;
mod renewing;
mod settling;
mod sharing;
mod streams;
mod support;
