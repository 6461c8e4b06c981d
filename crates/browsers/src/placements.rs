//! Which execution provider ran how many nodes, as verification sessions found it: kept per browser version, platform
//! and model, because a verification costs as much as a cold job.

use std::{collections::BTreeMap, path::Path};

use messages::Platform;
use serde::{Deserialize, Serialize};

use crate::{BrowserError, state_file};

/// Placements kept; the oldest goes first.
const PLACEMENTS_MAX: usize = 2_000;

/// Nodes by execution provider.
pub(crate) type Nodes = BTreeMap<String, u32>;

/// Everything verified.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Placements {
    known: BTreeMap<String, Known>,
    verified: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    nodes: Nodes,
    verified: u64,
}

impl Placements {
    const FILE: &'static str = "placements.json";

    pub(crate) fn read(directory: &Path) -> Self {
        state_file::read(&directory.join(Self::FILE))
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), BrowserError> {
        state_file::write(&directory.join(Self::FILE), self)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Nodes> {
        self.known.get(key).map(|known| &known.nodes)
    }

    pub(crate) fn insert(&mut self, key: String, nodes: Nodes) {
        self.verified += 1;
        self.known.insert(key, Known { nodes, verified: self.verified });
        while self.known.len() > PLACEMENTS_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.verified).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.known.remove(&oldest);
        }
    }
}

/// The execution provider that a platform is meant to run on, as ONNX Runtime names it.
pub(crate) fn provider_of(platform: Platform) -> &'static str {
    match platform {
        Platform::Webgpu => "WebGpuExecutionProvider",
        Platform::Webnn => "WebNNExecutionProvider",
        _ => "CPUExecutionProvider",
    }
}

/// For people, e.g. `CPUExecutionProvider 3, WebGpuExecutionProvider 1`.
pub(crate) fn describe(nodes: &Nodes) -> String {
    if nodes.is_empty() {
        return "none was seen".to_owned();
    }
    nodes.iter().map(|(provider, count)| format!("{provider} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_outlive_the_pool_and_are_bounded() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut placements = Placements::default();
        let nodes = Nodes::from([("CPUExecutionProvider".to_owned(), 3)]);
        for number in 0..=PLACEMENTS_MAX {
            placements.insert(format!("{number:05}"), nodes.clone());
        }
        placements.write(directory.path()).expect("writable");
        let read = Placements::read(directory.path());
        assert_eq!(read.get("00000"), None);
        assert_eq!(read.get("00001"), Some(&nodes));
        assert_eq!(describe(&nodes), "CPUExecutionProvider 3");
    }
}
