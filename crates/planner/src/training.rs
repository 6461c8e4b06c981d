//! What training would take, derived from what is predicted of inference: no table has measurements of training.

use features::TrainingMemory;

use crate::recommend::{Estimate, HardwareCandidate};

/// How the numbers for training come about, for people.
pub const TRAINING_BASIS: &str = "nothing was measured of training: times are three times the predicted inference \
     (forward pass, and a backward pass of twice its arithmetic and bytes), their intervals widened to 2.7 to 7.2 times; \
     memory is physics (16 bytes per parameter with Adam, and the values kept for the backward pass); power is that of \
     inference; how sure this is, is not known";

/// Time of a step over that of inference with the same batch: the backward pass computes and moves twice what the
/// forward pass does, once for the gradients of values and once for those of weights. Kaplan et al. 2020, section 2.1,
/// <https://arxiv.org/abs/2001.08361>.
const STEP_RATIO: f64 = 3.0;

/// What that ratio may be. Of 96 models taken from timm's published results (RTX 3090, mixed precision, `nhwc`;
/// `benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv` and the inference file of `PyTorch` 1.13 in `results/` of
/// <https://github.com/huggingface/pytorch-image-models>) the lowest was 2.7, the median 3.3, the 95th percentile 7.2:
/// grouped convolutions are slow backwards. Other hardware may differ.
const STEP_RATIO_RANGE: [f64; 2] = [2.7, 7.2];

/// The same device with what a training step takes instead of inference; the numbers have no confidence, because none
/// was ever held against a measurement.
///
/// Latency and throughput are scaled, their intervals widened by the uncertainty of the ratio as an independent error.
/// Memory is that of physics, or unknown; power stays.
pub fn as_training(candidate: HardwareCandidate, memory: Option<TrainingMemory>) -> HardwareCandidate {
    let mut notes = candidate.notes;
    notes.push("derived from inference and physics, not from measured training".to_owned());
    if memory.is_none() {
        notes
            .push("memory for training is unknown, because the release does not know the model's operators".to_owned());
    }
    let unsure = |estimate: Estimate| Estimate { confidence: None, ..estimate };
    HardwareCandidate {
        latency_ms: candidate.latency_ms.map(step_latency),
        throughput_items_per_second: candidate
            .throughput_items_per_second
            .map(|speed| inverse(step_latency(inverse(speed)))),
        memory_peak_mb: memory.map(between),
        power_w: candidate.power_w.map(unsure),
        notes,
        ..candidate
    }
}

/// Time of a step from that of inference.
fn step_latency(inference: Estimate) -> Estimate {
    let value = inference.value * STEP_RATIO;
    // Independent errors of logarithms add by their squares.
    let far = |end: f64, ratio: f64| (end / inference.value).ln().hypot((ratio / STEP_RATIO).ln()).exp();
    let [least, most] = STEP_RATIO_RANGE;
    Estimate {
        value,
        lower: value / far(inference.lower, least),
        upper: value * far(inference.upper, most),
        confidence: None,
    }
}

/// Time from speed and back.
fn inverse(Estimate { value, lower, upper, confidence }: Estimate) -> Estimate {
    Estimate { value: value.recip(), lower: upper.recip(), upper: lower.recip(), confidence }
}

/// The middle of the bounds by their logarithms, and the bounds.
fn between(memory: TrainingMemory) -> Estimate {
    let TrainingMemory { least_mb: lower, most_mb: upper } = memory;
    Estimate { value: (lower * upper).sqrt(), lower, upper, confidence: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inference() -> HardwareCandidate {
        let estimate = |value: f64| Estimate { value, lower: value / 1.1, upper: value * 1.1, confidence: Some(0.9) };
        HardwareCandidate {
            device: "GPU".to_owned(),
            latency_ms: Some(estimate(10.0)),
            throughput_items_per_second: Some(estimate(800.0)),
            memory_peak_mb: Some(estimate(500.0)),
            power_w: Some(estimate(200.0)),
            memory_mb: Some(8_000.0),
            notes: vec!["nothing was measured on this device".to_owned()],
            ..HardwareCandidate::default()
        }
    }

    fn check(found: Option<Estimate>, expected: [f64; 3]) {
        let Estimate { value, lower, upper, confidence } = found.expect("known");
        assert_eq!(confidence, None);
        for (found, expected) in [lower, value, upper].into_iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-3, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_step_takes_three_times_as_long_and_nobody_knows_exactly() {
        let training = as_training(inference(), Some(TrainingMemory { least_mb: 1_000.0, most_mb: 4_000.0 }));
        // exp(√(ln² 1.1 + ln² (3/2.7))) = 1.1528 and exp(√(ln² 1.1 + ln² (7.2/3))) = 2.4125.
        check(training.latency_ms, [30.0 / 1.1528, 30.0, 30.0 * 2.4125]);
        check(training.throughput_items_per_second, [800.0 / 3.0 / 2.4125, 800.0 / 3.0, 800.0 / 3.0 * 1.1528]);
        check(training.memory_peak_mb, [1_000.0, 2_000.0, 4_000.0]);
        check(training.power_w, [200.0 / 1.1, 200.0, 220.0]);
        assert_eq!((training.memory_mb, training.notes.len()), (Some(8_000.0), 2));
        assert!(training.notes[1].contains("not from measured training"), "{:?}", training.notes);
    }

    #[test]
    fn memory_is_not_guessed() {
        let training = as_training(inference(), None);
        assert_eq!(training.memory_peak_mb, None);
        assert!(training.notes.iter().any(|note| note.contains("memory for training is unknown")));
    }

    #[test]
    fn what_was_known_exactly_is_as_uncertain_as_the_ratio() {
        let exact = Estimate { value: 10.0, lower: 10.0, upper: 10.0, confidence: None };
        check(Some(step_latency(exact)), [27.0, 30.0, 72.0]);
    }
}
