//! This crate against a real RabbitMQ: one node for all tests, a virtual host for each; own nodes where one dies.

#![expect(clippy::unwrap_used, reason = "tests")]

mod connecting;
mod declaring;
mod publishing;
mod reconnecting;
mod settling;
mod streams;
mod support;
