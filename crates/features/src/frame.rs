//! The feature frame: one row per subject, one `f32` column per feature.

use std::path::Path;

use polars::prelude::{Column, DataFrame, DataType, Float32Chunked, IntoLazy};

use crate::{FeatureError, Subject, features, raw::raw_frame, table::write_parquet};

/// Features of subjects.
///
/// Shape `[n_subjects, n_features]`, rows in the order of the subjects, columns as [`features`] lists them.
#[derive(Debug, Clone)]
pub struct FeatureFrame {
    frame: DataFrame,
}

impl FeatureFrame {
    /// Builds the frame.
    ///
    /// # Errors
    ///
    /// [`FeatureError::DeviceUndescribed`] and [`FeatureError::ModelUndescribed`] name what the first subject at
    /// fault lacks.
    pub fn build(subjects: &[Subject]) -> Result<Self, FeatureError> {
        let plan: Vec<_> =
            features().iter().map(|feature| feature.expression().cast(DataType::Float32).alias(feature.name)).collect();
        let frame = if subjects.is_empty() {
            // No row names no raw columns, so there is nothing for the plan to select from.
            let columns = features().iter().map(|feature| empty_column(feature.name)).collect();
            DataFrame::new(0, columns)
        } else {
            raw_frame(subjects)?.lazy().select(plan).collect()
        };
        frame.map(|frame| Self { frame }).map_err(|source| FeatureError::Frame { source })
    }

    /// Number of subjects.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// Number of features.
    pub fn columns(&self) -> usize {
        self.frame.width()
    }

    /// The frame itself.
    pub const fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// All values, row after row; a missing value is NaN.
    pub fn to_matrix(&self) -> Vec<f32> {
        let (rows, columns) = (self.rows(), self.columns());
        let mut matrix = vec![f32::NAN; rows * columns];
        for (index, column) in self.frame.columns().iter().enumerate() {
            for (row, value) in single_precision(column).iter().enumerate() {
                if let Some(value) = value.filter(|value| value.is_finite()) {
                    matrix[row * columns + index] = value;
                }
            }
        }
        matrix
    }

    /// Writes the frame as Parquet, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`FeatureError::File`] or [`FeatureError::Parquet`].
    pub fn write_parquet(&self, path: &Path) -> Result<(), FeatureError> {
        write_parquet(&mut self.frame.clone(), path)
    }
}

fn single_precision(column: &Column) -> &Float32Chunked {
    column.f32().expect("the plan casts every feature to f32")
}

fn empty_column(name: &str) -> Column {
    Column::new_empty(name.into(), &DataType::Float32)
}

#[cfg(test)]
mod tests {
    use messages::{ContentHash, Device, Platform};

    use super::*;
    use crate::{feature_names, schema_id, subject::tests::subject};

    fn value(subject: &Subject, feature: &str) -> f32 {
        let frame = FeatureFrame::build(std::slice::from_ref(subject)).expect("described");
        let column = feature_names().iter().position(|name| *name == feature).expect("a feature");
        frame.to_matrix()[column]
    }

    fn check(feature: &str, expected: f64) {
        let found = f64::from(value(&subject(), feature));
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{feature}: {found}, not {expected}");
    }

    #[test]
    fn features_say_what_their_meaning_says() {
        check("log_macs", 2e9_f64.ln());
        check("log_activation_elements", 80e6_f64.ln());
        check("log_operators", 6_f64.ln());
        check("log_distinct_operators", 3_f64.ln());
        check("log_intensity", (1.0 + 4e9 / (4.0 * 82e6_f64)).ln());
        check("weight_byte_share", 2.0 / 82.0);
        check("mac_share_conv", 1.0);
        check("element_share_elem", 0.75);
        check("operator_share_copy", 0.0);
        check("log_roofline_ms", 52_f64.ln());
        check("compute_bound_share", 40.0 / 52.0);
        check("log_roofline_mb", 100_f64.ln());
        check("log_threads", 4_f64.ln());
        check("threads_per_core", 1.0);
        check("threads_per_hardware_thread", 0.5);
        check("log_image_size", 224_f64.ln());
        check("log_weight_bytes_per_l3", (1.0 + 8e6 / 16e6_f64).ln());
        check("log_balance", 5_f64.ln());
    }

    #[test]
    fn what_is_unknown_is_missing_and_everything_else_is_finite() {
        let missing = ["log_sequence_length", "log_weight_bytes_per_l2", "log_memory_mb", "log_clock_mhz"];
        for name in feature_names() {
            assert_eq!(value(&subject(), name).is_nan(), missing.contains(name), "{name}");
        }
    }

    #[test]
    fn rows_keep_the_order_of_the_subjects() {
        let subjects: Vec<_> = (1..=50)
            .map(|batch_size| {
                let mut subject = subject();
                subject.configuration.batch_size = batch_size;
                subject
            })
            .collect();
        let frame = FeatureFrame::build(&subjects).expect("described");
        assert_eq!((frame.rows(), frame.columns()), (50, feature_names().len()));
        let column = feature_names().iter().position(|name| *name == "log_batch_size").expect("a feature");
        for (row, values) in frame.to_matrix().chunks(frame.columns()).enumerate() {
            let expected = (row as f32 + 1.0).ln();
            assert!((values[column] - expected).abs() < 1e-5, "row {row}: {}", values[column]);
        }
    }

    #[test]
    fn names_of_models_and_devices_do_not_matter() {
        let known = FeatureFrame::build(&[subject()]).expect("described").to_matrix();
        let mut renamed = subject();
        renamed.configuration.model.name = "another".to_owned();
        renamed.configuration.model.sha256 = ContentHash([9; 32]);
        renamed.device.name = "Another CPU".to_owned();
        let renamed = FeatureFrame::build(&[renamed]).expect("described").to_matrix();
        assert_eq!(
            known.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            renamed.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn one_undescribed_subject_is_an_error() {
        let mut unknown = subject();
        unknown.device = Device::unknown("New NPU", Platform::Qnn);
        let error = FeatureFrame::build(&[subject(), unknown]).expect_err("undescribed").to_string();
        assert!(error.contains("New NPU"), "{error}");
    }

    #[test]
    fn no_subjects_make_an_empty_frame_of_the_same_columns() {
        let frame = FeatureFrame::build(&[]).expect("empty");
        assert_eq!((frame.rows(), frame.columns()), (0, feature_names().len()));
    }

    #[test]
    fn the_schema_names_each_feature_once() {
        let mut names = feature_names().to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), feature_names().len());
        assert_eq!(schema_id().len(), 16);
    }
}
