//! The browser pool: sessions of real browsers, their health, and the page that runs a model in them.
//!
//! A tab's page pulls its work from the pool's own server on 127.0.0.1 ([`Pool`] → `server` → `page/`); WebDriver only
//! starts browsers and opens and closes tabs. So a warm job costs no WebDriver call, several tabs of one browser work
//! at once, and a model that loops for ever cannot wedge a driver. Who decides what:
//!
//! | module | decides |
//! |---|---|
//! | `scheduler` | where a job goes, from a picture of the pool |
//! | `job` | what becomes of it there, and whose fault a failure is |
//! | `recovery`, `breaker` | what is tried after a failure, and what is given up for a while |
//! | `care` | when browsers are probed, recycled and let go |
//! | `processes` | which processes belong to a browser, so that all of them end |

mod breaker;
mod capability;
mod care;
mod driver;
mod error;
mod inner;
mod installed;
mod job;
mod lease;
mod placements;
mod pool;
mod processes;
mod protocol;
mod recovery;
mod request;
mod scheduler;
mod server;
mod session;
mod settings;
mod speeds;
mod state;
mod state_file;
mod status;
mod tab;

pub use capability::{Capability, CapabilityStatus, Detected};
pub use error::{BrowserError, WebError};
pub use pool::{Pool, detect};
pub use recovery::Rung;
pub use request::{InputTensor, ModelFile, OutputTensor, WebRequest, WebRun};
pub use settings::{BreakerSettings, BrowserSettings, Family, PoolSettings};
pub use speeds::SpeedStatus;
pub use status::{Address, BreakerStatus, BrowserStatus, CounterStatus, PoolStatus, SessionStatus, TabStatus};
