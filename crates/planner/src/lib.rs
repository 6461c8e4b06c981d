//! What to benchmark next, and what to run a model on.
//!
//! [`candidate_grid`] spells out the configurations that could be measured, [`propose`] picks those from which the
//! predictors would learn most: a [`Landscape`] says how alike they are, [`select`] picks a batch by a [`Strategy`] within
//! [`Constraints`]. [`recommend()`] ranks hardware by what is predicted of a model on it; for training, [`as_training`]
//! derives that from inference first. Nothing here publishes or measures.

mod candidates;
mod constraints;
mod decision;
mod error;
mod landscape;
mod nearness;
mod posterior;
mod propose;
mod recommend;
mod rivals;
mod select;
mod strategy;
mod training;

pub use candidates::{CANDIDATES_MAX, Candidate, SearchModel, SearchSpace, Shape, candidate_grid};
pub use constraints::{Constraints, Refusal};
pub use decision::{decision_value, normal_distribution};
pub use error::PlannerError;
pub use landscape::Landscape;
pub use propose::{Barred, Incompatible, PassedOver, Past, Plan, Proposal, Wish, Withheld, propose};
pub use recommend::{Estimate, Excluded, Goal, HardwareCandidate, Limits, Ranked, Recommendation, recommend};
pub use select::{Outlook, Pick, Pool, Selection, select};
pub use strategy::Strategy;
pub use training::{TRAINING_BASIS, as_training};
