//! What a training step holds in memory, by physics alone.

use messages::OperatorKind;

use crate::{
    DeviceTable, MeasuredRow, OperatorTable,
    described::{Described, describe},
};

/// Weight, gradient and two moments of Adam, in bytes per parameter: 4 each in fp32; in mixed precision 2 + 2, and 4
/// each for a copy of the weight and the moments. Rajbhandari et al. 2019 (`ZeRO`), section 3.1,
/// <https://arxiv.org/abs/1910.02054>.
const STATE_BYTES_PER_PARAMETER: f64 = 16.0;

/// A value is written once and read once, so half of what operators read and write are distinct values.
const VALUES_PER_ELEMENT: f64 = 0.5;

/// Bounds of the peak memory of one training step with Adam, in MB (10^6 bytes): nothing is computed twice to save
/// memory, and buffers of the runtime are not in it.
///
/// Checked against timm's published training results (`benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv` in `results/`
/// of <https://github.com/huggingface/pytorch-image-models>), which name the largest batch that fitted into 24 GB: of 17
/// models `least_mb` was below that in all, and of the next larger batch `most_mb` was above it in 16.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingMemory {
    /// Parameters with gradients and moments, and the values from which products and normalisations take their
    /// gradients; all others work in place.
    pub least_mb: f64,
    /// The same with every value of the forward pass, and the gradients of the largest operator.
    pub most_mb: f64,
}

impl TrainingMemory {
    /// Of each row, in their order; `None` for a model without operators: how much it keeps for the backward pass is
    /// not known then.
    pub fn of_rows(rows: &[MeasuredRow], devices: &DeviceTable, operators: &OperatorTable) -> Vec<Option<Self>> {
        describe(rows, devices, operators).iter().map(Self::of).collect()
    }

    fn of(described: &Described<'_>) -> Option<Self> {
        let sums = described.sums.as_deref()?;
        let kept = |is_kept: &dyn Fn(OperatorKind) -> bool| -> f64 {
            let of_kind = OperatorKind::ALL.iter().zip(sums.elements).filter(|(kind, _)| is_kept(**kind));
            of_kind.map(|(_, elements)| elements * VALUES_PER_ELEMENT).sum()
        };
        let states = described.weights() * STATE_BYTES_PER_PARAMETER;
        let mb = |elements: f64| (states + elements * described.peaks.activation_bytes) / 1e6;
        let most = kept(&|_| true) + sums.largest_elements;
        Some(Self { least_mb: mb(kept(&gradient_needs_values)), most_mb: mb(most) })
    }
}

/// Whether an operator's gradient needs what it read or wrote, even if the operator works in place: products need
/// their inputs, a sum or a copy needs nothing.
const fn gradient_needs_values(kind: OperatorKind) -> bool {
    match kind {
        OperatorKind::Conv
        | OperatorKind::Conv1
        | OperatorKind::Gconv
        | OperatorKind::Dw
        | OperatorKind::Linear
        | OperatorKind::Bmm
        | OperatorKind::Sdpa
        | OperatorKind::Norm
        | OperatorKind::Softmax => true,
        OperatorKind::Act | OperatorKind::Copy | OperatorKind::Reduce | OperatorKind::Elem => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::tests::tables;

    /// Of batch 2 of a convolution of 10e6 elements and 1e6 weights, and two sums of 10e6 elements each.
    fn check(change: impl FnOnce(&mut MeasuredRow), expected: Option<[f64; 2]>) {
        let (mut rows, devices, mut operators) = tables();
        operators.get_mut("a").expect("a model")[0].operators[0].weight_elements = 1_000_000;
        change(&mut rows[0]);
        let found = TrainingMemory::of_rows(&rows, &devices, &operators);
        assert_eq!(found, [expected.map(|[least_mb, most_mb]| TrainingMemory { least_mb, most_mb })]);
    }

    #[test]
    fn a_step_holds_sixteen_bytes_per_parameter_and_the_values_of_the_forward_pass() {
        // 16 MB of states; 5e6 values of the convolution; 15e6 of all, and gradients of the largest operator's 11e6.
        check(|_| (), Some([16.0 + 20.0, 16.0 + 60.0 + 44.0]));
        check(|row| row.precision = Some("amp".to_owned()), Some([16.0 + 10.0, 16.0 + 30.0 + 22.0]));
        check(|row| row.batch_size = 4.0, Some([16.0 + 40.0, 16.0 + 120.0 + 84.0]));
        check(|row| row.params_m = Some(10.0), Some([160.0 + 20.0, 160.0 + 60.0 + 44.0]));
    }

    #[test]
    fn without_operators_nothing_is_said() {
        check(|row| row.model = "unknown".to_owned(), None);
    }
}
