//! Tests over the whole store, one file per promise.

mod adoption;
pub(crate) mod builders;
mod commit;
mod delivery;
mod imports;
mod opening;
mod order;
mod quarantine;
mod queries;
mod replay;
mod web;
mod withheld;
