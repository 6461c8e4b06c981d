//! Tests over the whole store, one file per promise.

mod adoption;
pub(crate) mod builders;
mod commit;
mod opening;
mod queries;
mod replay;
