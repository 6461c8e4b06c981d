//! Configurations and measurements in, feature frame out.
//!
//! A [`Subject`] is what a prediction is about: a configuration, a device and the costs of the model's graph. From
//! subjects a Polars lazy plan makes a [`FeatureFrame`]. Every feature is a number that the graph, the device or
//! the configuration has of itself; none is a lookup by the name of a model or a device, so a predictor can be asked
//! about either that it never saw. [`roofline`] is the physics that predictors take the ratio to, and
//! [`TrainingTable`] keeps accepted measurements as Parquet.
//!
//! What is missing and needed is an error that names it; what is missing and optional is a missing value.

mod described;
mod device_table;
mod error;
mod frame;
mod measured;
mod operator_table;
mod own_measurements;
mod raw;
mod roofline;
mod schema;
mod subject;
mod table;
mod table_columns;
mod table_features;
mod tables;
mod timm;
mod training_memory;

pub use device_table::{DEVICE_COLUMNS, DeviceTable, PublishedDevice, read_devices, write_devices};
pub use error::FeatureError;
pub use frame::FeatureFrame;
pub use measured::{MEASUREMENT_COLUMNS, MeasuredTable};
pub use messages::{MeasuredRow, TABLE_METRICS};
pub use operator_table::{ModelOperators, OperatorTable, read_operators};
pub use own_measurements::OwnTables;
pub use roofline::{Roofline, roofline};
pub use schema::{Feature, SCHEMA_VERSION, feature_names, features, schema_id};
pub use subject::Subject;
pub use table::TrainingTable;
pub use table_features::{Role, TableFeature, TableFeatures, is_time_share, table_features, table_schema_id};
pub use tables::BadRow;
pub use training_memory::TrainingMemory;
