//! The closed sets of words: platforms, priorities, precisions, backends, metrics.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A word that is not in its closed set.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{found}` is not a {kind}; one of {known} was expected")]
pub struct UnknownWord {
    /// What the word should have been, e.g. `platform`.
    pub kind: &'static str,
    /// The word found.
    pub found: String,
    /// The words that exist, comma-separated.
    pub known: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $kind:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word as it is written in files, messages and on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord {
                        kind: $kind,
                        found: text.to_owned(),
                        known: [$($word),+].join(", "),
                    }),
                }
            }
        }
    };
}

words!(
    /// A kind of execution target.
    Platform, "platform" {
        /// The processor itself.
        Cpu = "cpu",
        /// NVIDIA GPUs.
        Cuda = "cuda",
        /// AMD GPUs.
        Rocm = "rocm",
        /// Apple GPUs.
        Mps = "mps",
        /// Intel's runtime.
        Openvino = "openvino",
        /// Qualcomm's NPU.
        Qnn = "qnn",
        /// A browser's GPU interface.
        Webgpu = "webgpu",
        /// A browser's neural-network interface.
        Webnn = "webnn",
        /// A browser's WebAssembly.
        Wasm = "wasm",
    }
);
words!(
    /// A lane of the queue; higher lanes start first.
    Priority, "priority" {
        /// Before everything else.
        Critical = "critical",
        /// Before normal work.
        High = "high",
        /// The usual lane.
        Normal = "normal",
        /// When nothing else waits.
        Low = "low",
    }
);
words!(
    /// The number format of weights and arithmetic.
    Precision, "precision" {
        /// 32-bit floating point.
        Fp32 = "fp32",
        /// 16-bit floating point.
        Fp16 = "fp16",
        /// 8-bit integers.
        Int8 = "int8",
        /// 4-bit weights.
        Int4 = "int4",
    }
);
words!(
    /// The runtime that executes a model.
    Backend, "backend" {
        /// ONNX Runtime, natively.
        Onnxruntime = "onnxruntime",
        /// ONNX Runtime in a browser.
        OrtWeb = "ort-web",
    }
);
words!(
    /// What is measured and predicted; the unit is part of the name.
    Metric, "metric" {
        /// Time of one batch, in milliseconds.
        LatencyMs = "latency_ms",
        /// Items (samples, not batches) per second.
        ThroughputItemsPerSecond = "throughput_items_per_second",
        /// Largest resident memory of the process that ran the model, in MB (10^6 bytes).
        MemoryPeakMb = "memory_peak_mb",
        /// Mean power, in watts.
        PowerW = "power_w",
        /// Time to load the model and create its session, in milliseconds.
        LoadMs = "load_ms",
    }
);

impl Platform {
    /// Those that a browser gives.
    pub const WEB: [Self; 3] = [Self::Webgpu, Self::Webnn, Self::Wasm];

    /// Whether a browser gives it.
    pub const fn is_web(self) -> bool {
        matches!(self, Self::Webgpu | Self::Webnn | Self::Wasm)
    }
}

impl Precision {
    /// Bytes that one weight takes.
    pub const fn bytes_per_weight(self) -> f64 {
        match self {
            Self::Fp32 => 4.0,
            Self::Fp16 => 2.0,
            Self::Int8 => 1.0,
            Self::Int4 => 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_parses_back() {
        for platform in Platform::ALL {
            assert_eq!(platform.as_str().parse(), Ok(*platform));
        }
        for metric in Metric::ALL {
            assert_eq!(metric.as_str().parse(), Ok(*metric));
        }
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        let error = "turbo".parse::<Priority>().expect_err("no such priority");
        assert_eq!(error.to_string(), "`turbo` is not a priority; one of critical, high, normal, low was expected");
    }
}
