//! What to benchmark next.
//!
//! [`candidate_grid`] spells out the configurations that could be measured, [`propose`] picks those from which the
//! predictors would learn most. Nothing here publishes or measures.

mod candidates;
mod error;
mod propose;

pub use candidates::{CANDIDATES_MAX, Candidate, SearchModel, SearchSpace, Shape, candidate_grid};
pub use error::PlannerError;
pub use propose::{Proposal, Strategy, propose};
