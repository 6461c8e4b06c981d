//! What a measurement is worth to whoever has to choose hardware.

/// The standard normal density.
fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The standard normal distribution function, to 1e-7: Abramowitz and Stegun, *Handbook of Mathematical Functions*,
/// 26.2.17.
pub fn normal_distribution(z: f64) -> f64 {
    const FACTORS: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = FACTORS.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    let upper_tail = density(z) * series;
    if z >= 0.0 { 1.0 - upper_tail } else { upper_tail }
}

/// By how much the logarithm of the recommended latency is expected to fall once a candidate is measured.
///
/// `log` and `deviation_log` are the candidate's predicted log latency and its standard deviation, `rival_log` that of
/// the best other hardware for the same model and batch. Measuring changes the recommendation if it makes a leader worse
/// than its rival, or another better: `σ f(−|Δ| / σ)` with `f(z) = φ(z) + z Φ(z)`, the knowledge gradient of independent
/// beliefs and a measurement without noise (Frazier, Powell and Dayanik 2008, <https://doi.org/10.1137/070693424>).
pub fn decision_value(log: f64, deviation_log: f64, rival_log: f64) -> f64 {
    if !(deviation_log.is_finite() && deviation_log > 0.0) {
        return 0.0;
    }
    let z = -(log - rival_log).abs() / deviation_log;
    (deviation_log * (density(z) + z * normal_distribution(z))).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_that_of_tables() {
        for (z, expected) in [(0.0, 0.5), (1.0, 0.841_344_746), (-1.644_853_6, 0.05), (3.0, 0.998_650_102)] {
            let found = normal_distribution(z);
            assert!((found - expected).abs() < 1e-6, "Φ({z}) = {found}, not {expected}");
        }
    }

    #[test]
    fn only_what_could_change_the_choice_is_worth_anything() {
        let ms = f64::ln;
        let close = decision_value(ms(10.0), 0.1, ms(10.5));
        let far = decision_value(ms(10.0), 0.1, ms(30.0));
        let sure = decision_value(ms(10.0), 0.001, ms(10.5));
        assert!(close > 0.01 && far < 1e-6 && sure < 1e-6, "{close}, {far}, {sure}");
        // Whether it leads or follows does not matter, and at a tie the value is σ φ(0).
        assert!((close - decision_value(ms(10.5), 0.1, ms(10.0))).abs() < 1e-12);
        assert!((decision_value(0.0, 0.2, 0.0) - 0.2 * 0.398_942_28).abs() < 1e-6);
        assert!(decision_value(0.0, f64::NAN, 0.0).abs() < f64::EPSILON);
    }
}
