//! The physics that predictors take the ratio to: no operator is faster than its arithmetic at peak or its bytes at
//! full bandwidth.
//!
//! The roofline model: <https://doi.org/10.1145/1498765.1498785>, here per operator, since one operator's spare
//! bandwidth is of no use to the next.

use messages::{Device, Platform, Precision};

use crate::{FeatureError, Subject};

/// Lower bounds of one subject's latency and memory, if its device were used perfectly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Sum over the operators of the longer of compute time and memory time, in milliseconds per batch.
    pub latency_ms: f64,
    /// The part of `latency_ms` in operators that the compute peak bounds, in milliseconds per batch.
    pub compute_bound_ms: f64,
    /// Weights, and the activations of the largest operator, in MB (10^6 bytes).
    pub memory_mb: f64,
}

/// Peaks of a device that a configuration may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peaks {
    /// Compute peak that the configuration's threads can reach, in GFLOP/s.
    pub(crate) usable_gflops: f64,
    /// Compute peak of the whole device, in GFLOP/s.
    pub(crate) device_gflops: f64,
    /// Bandwidth to memory, in GB/s.
    pub(crate) bandwidth_gb_per_s: f64,
}

/// Computes the roofline of one subject.
///
/// Each operator takes the longer of `2 × MACs / compute peak` and `bytes / bandwidth`. On `cpu` and `wasm` the
/// compute peak grows with the threads, linearly up to the device's cores and no further. Bandwidth is not scaled:
/// how much of it one thread draws is left to the predictors, as is how much faster than fp32 a device computes in
/// narrower formats: here precision decides the bytes only.
///
/// # Errors
///
/// [`FeatureError::DeviceUndescribed`] without compute peak or bandwidth, [`FeatureError::ModelUndescribed`] without
/// operators or if they cost nothing.
pub fn roofline(subject: &Subject) -> Result<Roofline, FeatureError> {
    roofline_with(subject, peaks(subject)?)
}

pub(crate) fn roofline_with(subject: &Subject, peaks: Peaks) -> Result<Roofline, FeatureError> {
    let undescribed =
        |missing| FeatureError::ModelUndescribed { model: subject.configuration.model.name.clone(), missing };
    if subject.costs.operators.is_empty() {
        return Err(undescribed("its graph has no operators"));
    }
    let precision = subject.configuration.precision;
    let (activation_bytes, weight_bytes) = (bytes_per_activation(precision), precision.bytes_per_weight());
    let mut bound = Roofline { latency_ms: 0.0, compute_bound_ms: 0.0, memory_mb: 0.0 };
    let mut largest_activation_bytes: f64 = 0.0;
    for operator in &subject.costs.operators {
        let activations = operator.activation_elements as f64 * activation_bytes;
        let bytes = activations + operator.weight_elements as f64 * weight_bytes;
        // 1e9 operations or bytes per second are 1e6 per millisecond.
        let compute_ms = 2.0 * operator.macs as f64 / (peaks.usable_gflops * 1e6);
        let memory_ms = bytes / (peaks.bandwidth_gb_per_s * 1e6);
        let operator_ms = compute_ms.max(memory_ms) * f64::from(operator.count);
        bound.latency_ms += operator_ms;
        if compute_ms > memory_ms {
            bound.compute_bound_ms += operator_ms;
        }
        largest_activation_bytes = largest_activation_bytes.max(activations);
    }
    bound.memory_mb = (subject.costs.parameters as f64 * weight_bytes + largest_activation_bytes) / 1e6;
    if bound.latency_ms > 0.0 && bound.memory_mb > 0.0 {
        Ok(bound)
    } else {
        Err(undescribed("its operators have neither arithmetic nor bytes"))
    }
}

/// The peaks of a subject's device, or what it lacks.
pub(crate) fn peaks(subject: &Subject) -> Result<Peaks, FeatureError> {
    let device = &subject.device;
    let positive = |value: Option<f64>, missing| {
        value.filter(|value| value.is_finite() && *value > 0.0).ok_or_else(|| FeatureError::DeviceUndescribed {
            device: device.name.clone(),
            platform: device.platform,
            missing,
        })
    };
    let device_gflops = positive(device.peak_fp32_gflops, "peak of fp32 arithmetic (GFLOP/s)")?;
    Ok(Peaks {
        usable_gflops: device_gflops * share_of_cores(device, subject.configuration.threads),
        device_gflops,
        bandwidth_gb_per_s: positive(device.memory_bandwidth_gb_per_s, "memory bandwidth (GB/s)")?,
    })
}

/// The share of a processor's cores that `threads` can keep busy; 1 where threads are not what computes.
pub(crate) fn share_of_cores(device: &Device, threads: u32) -> f64 {
    if !matches!(device.platform, Platform::Cpu | Platform::Wasm) {
        return 1.0;
    }
    match device.compute_units.or(device.hardware_threads) {
        Some(cores) if cores > 0 => f64::from(threads.clamp(1, cores)) / f64::from(cores),
        _ => 1.0,
    }
}

/// Bytes of one activation element: quantised weights still meet 4-byte activations between operators.
pub(crate) const fn bytes_per_activation(precision: Precision) -> f64 {
    match precision {
        Precision::Fp16 => 2.0,
        Precision::Fp32 | Precision::Int8 | Precision::Int4 => 4.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::tests::subject;

    fn check(change: impl FnOnce(&mut Subject), expected: (f64, f64)) {
        let mut subject = subject();
        change(&mut subject);
        let bound = roofline(&subject).expect("described");
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
        assert!(close(bound.latency_ms, expected.0) && close(bound.memory_mb, expected.1), "{bound:?}");
    }

    #[test]
    fn an_operator_takes_the_longer_of_arithmetic_and_bytes() {
        // Convolution: 2 × 1e9 / 100 GFLOP/s = 20 ms, its 44 MB / 20 GB/s = 2.2 ms, twice.
        // Element-wise: no arithmetic, 80 MB / 20 GB/s = 4 ms, three times. Memory: 5e6 × 4 + 80e6 bytes.
        check(|_| (), (52.0, 100.0));
    }

    #[test]
    fn threads_raise_the_compute_peak_up_to_the_cores() {
        check(|subject| subject.configuration.threads = 2, (2.0 * 40.0 + 12.0, 100.0));
        check(|subject| subject.configuration.threads = 64, (52.0, 100.0));
        check(
            |subject| {
                subject.configuration.threads = 1;
                subject.device.platform = Platform::Cuda;
            },
            (52.0, 100.0),
        );
    }

    #[test]
    fn half_precision_halves_the_bytes() {
        check(|subject| subject.configuration.precision = Precision::Fp16, (46.0, 50.0));
    }

    #[test]
    fn what_cannot_be_described_is_named() {
        let fail = |change: fn(&mut Subject)| {
            let mut subject = subject();
            change(&mut subject);
            roofline(&subject).expect_err("undescribed").to_string()
        };
        assert_eq!(
            fail(|subject| subject.device.peak_fp32_gflops = None),
            "device `Test CPU` (cpu) cannot be described: its peak of fp32 arithmetic (GFLOP/s) is unknown"
        );
        assert_eq!(
            fail(|subject| subject.device.memory_bandwidth_gb_per_s = Some(0.0)),
            "device `Test CPU` (cpu) cannot be described: its memory bandwidth (GB/s) is unknown"
        );
        assert_eq!(
            fail(|subject| subject.costs.operators.clear()),
            "model `test-model` cannot be described: its graph has no operators"
        );
        assert_eq!(
            fail(|subject| {
                subject.costs.operators.truncate(1);
                subject.costs.operators[0].macs = 0;
                subject.costs.operators[0].activation_elements = 0;
                subject.costs.operators[0].weight_elements = 0;
            }),
            "model `test-model` cannot be described: its operators have neither arithmetic nor bytes"
        );
    }
}
