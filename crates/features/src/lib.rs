//! Configurations and measurements in, feature frame out.
//!
//! Whatever was measured, by our own jobs or by others, is a table of [`MeasuredRow`]s beside a table of devices and one
//! of models' operators; [`OwnTables`] makes them of our own. From the three a Polars lazy plan makes a [`FeatureFrame`],
//! with the physics that predictors take the ratio to. Every feature is a number that the graph, the device or the
//! configuration has of itself; none is a lookup by the name of a model or a device, so a predictor can be asked about
//! either that it never saw. [`TrainingTable`] keeps accepted measurements as Parquet.
//!
//! What is unknown is a missing value.

mod described;
mod device_table;
mod error;
mod frame;
mod graph_sums;
mod in_parts;
mod measured;
mod operator_table;
mod own_measurements;
mod raw_columns;
mod subject;
mod table;
mod table_columns;
mod tables;
mod timm;
mod training_memory;

pub use device_table::{DEVICE_COLUMNS, DeviceTable, PublishedDevice, read_devices, write_devices};
pub use error::FeatureError;
pub use frame::{Feature, FeatureFrame, Role, features, is_time_share, schema_id};
pub use measured::{MEASUREMENT_COLUMNS, MeasuredTable};
pub use messages::{MeasuredRow, TABLE_METRICS};
pub use operator_table::{ModelOperators, OperatorTable, read_operators};
pub use own_measurements::OwnTables;
pub use subject::Subject;
pub use table::TrainingTable;
pub use tables::BadRow;
pub use training_memory::TrainingMemory;
