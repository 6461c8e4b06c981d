//! One concrete piece of hardware.

use crate::Platform;

/// Where a device's peaks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeakSource {
    /// Measured on the machine itself.
    Measured,
    /// Taken from the vendor's data sheet.
    Published,
}

/// A device with its measured or published properties; what is unknown is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// The vendor's name, e.g. `AMD EPYC 7B13`.
    pub name: String,
    /// What it is addressed as.
    pub platform: Platform,
    /// Operating system and its version, or the compute platform's.
    pub platform_version: Option<String>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// Memory that the device can use, in MB (10^6 bytes).
    pub memory_mb: Option<f64>,
    /// Physical cores or streaming multiprocessors.
    pub compute_units: Option<u32>,
    /// Threads that run at once.
    pub hardware_threads: Option<u32>,
    /// Widest vector extension in use, e.g. `avx512f`.
    pub simd: Option<String>,
    /// Largest clock, in MHz.
    pub clock_mhz: Option<f64>,
    /// Second-level cache of one core, in kB (10^3 bytes).
    pub cache_l2_kb: Option<f64>,
    /// Last-level cache, in kB (10^3 bytes).
    pub cache_l3_kb: Option<f64>,
    /// Peak of fp32 arithmetic over all cores, in GFLOP/s (a multiply-accumulate counts two).
    pub peak_fp32_gflops: Option<f64>,
    /// Bandwidth to memory, in GB/s (10^9 bytes).
    pub memory_bandwidth_gb_per_s: Option<f64>,
    /// Where the two peaks come from; `None` if there are none.
    pub peak_source: Option<PeakSource>,
}

impl Device {
    /// Most compute units, and most hardware threads, of a device: what an SQL `INTEGER` holds.
    pub const UNITS_MAX: u32 = i32::MAX as u32;

    /// A device of which only name and platform are known.
    pub fn unknown(name: impl Into<String>, platform: Platform) -> Self {
        Self {
            name: name.into(),
            platform,
            platform_version: None,
            driver_version: None,
            memory_mb: None,
            compute_units: None,
            hardware_threads: None,
            simd: None,
            clock_mhz: None,
            cache_l2_kb: None,
            cache_l3_kb: None,
            peak_fp32_gflops: None,
            memory_bandwidth_gb_per_s: None,
            peak_source: None,
        }
    }
}
