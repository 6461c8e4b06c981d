//! What of a question was never measured.

use std::fmt;

/// What of a row was never measured; each has errors of its own size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Novelty {
    /// Only the combination: the model was measured, and so was the device.
    Configuration,
    /// The model, and with it perhaps its family.
    Model,
    /// The device, but for a few measurements.
    FewShot,
    /// The device.
    Device,
}

impl Novelty {
    /// All of them, the least strange first.
    pub const ALL: [Self; 4] = [Self::Configuration, Self::Model, Self::FewShot, Self::Device];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Model => "model",
            Self::FewShot => "few-shot",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Novelty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
