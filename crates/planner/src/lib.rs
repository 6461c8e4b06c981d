//! What to benchmark next, and what to run a model on.
//!
//! [`candidate_grid`] spells out the configurations that could be measured, [`propose`] picks those from which the
//! predictors would learn most. [`recommend()`] ranks hardware by what is predicted of a model on it; for training,
//! [`as_training`] derives that from inference first. Nothing here publishes or measures.

mod candidates;
mod error;
mod propose;
mod recommend;
mod training;

pub use candidates::{CANDIDATES_MAX, Candidate, SearchModel, SearchSpace, Shape, candidate_grid};
pub use error::PlannerError;
pub use propose::{Proposal, Strategy, propose};
pub use recommend::{Estimate, Excluded, Goal, HardwareCandidate, Limits, Ranked, Recommendation, recommend};
pub use training::{TRAINING_BASIS, as_training};
