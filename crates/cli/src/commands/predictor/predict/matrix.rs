//! Predictions of one metric in lines and columns, for tables and heatmaps.

use super::PredictionRow;

/// One metric's predictions. Of one model: a line per device and way to run it, a column per batch size. Of several: a
/// line per model, and a column per device, or per batch size where there is one device.
#[derive(Debug)]
pub(crate) struct Matrix<'a> {
    /// The model, device or batch size that all cells share, where there is one.
    pub(crate) shared: Option<String>,
    pub(crate) columns: Vec<String>,
    /// Names of lines, with a cell per column; `None` where nothing was asked.
    pub(crate) lines: Vec<(String, Vec<Option<&'a PredictionRow>>)>,
}

/// What a prediction may be told apart by, beside model and device.
type Property = fn(&PredictionRow) -> Option<String>;

const BATCH_SIZE: Property = |row| Some(format!("batch {}", row.batch_size));
const PRECISION: Property = |row| row.precision.clone();
const THREADS: Property = |row| Some(format!("threads {}", row.threads?));

impl<'a> Matrix<'a> {
    pub(super) fn of(rows: &[&'a PredictionRow]) -> Self {
        let devices = distinct(rows.iter().map(|row| row.device.as_str()));
        let model = rows.first().map(|row| row.model.clone());
        match (count_models(rows), devices.as_slice()) {
            (0 | 1, _) => Self::new(rows, model, |row| joined(&row.device, row, &[PRECISION, THREADS]), batch),
            (_, [device]) => {
                let ways = varying(rows, &[PRECISION, THREADS]);
                Self::new(rows, Some((*device).to_owned()), |row| joined(&row.model, row, &ways), batch)
            }
            _ => Self::of_models_and_devices(rows),
        }
    }

    fn of_models_and_devices(rows: &[&'a PredictionRow]) -> Self {
        let ways = varying(rows, &[BATCH_SIZE, PRECISION, THREADS]);
        // What each device has one of belongs to the device: processors run fp32 where GPUs run amp.
        let (of_lines, of_columns): (Vec<Property>, Vec<Property>) =
            ways.into_iter().partition(|way| varies_on_a_device(rows, *way));
        let sizes = distinct(rows.iter().map(|row| batch(row)));
        let size = if let [size] = sizes.as_slice() { Some(size.clone()) } else { None };
        let line = |row: &PredictionRow| joined(&row.model, row, &of_lines);
        Self::new(rows, size, line, |row| joined(&row.device, row, &of_columns))
    }

    fn new(
        rows: &[&'a PredictionRow],
        shared: Option<String>,
        line: impl Fn(&PredictionRow) -> String,
        column: impl Fn(&PredictionRow) -> String,
    ) -> Self {
        let places: Vec<(String, String)> = rows.iter().map(|row| (line(row), column(row))).collect();
        let columns = distinct(places.iter().map(|(_, column)| column.clone()));
        let cell = |name: &String, heading: &String| {
            let place = places.iter().position(|(line, column)| line == name && column == heading);
            place.map(|index| rows[index])
        };
        let lines = distinct(places.iter().map(|(line, _)| line.clone()))
            .into_iter()
            .map(|name| {
                let cells = columns.iter().map(|heading| cell(&name, heading)).collect();
                (name, cells)
            })
            .collect();
        Self { shared, columns, lines }
    }
}

/// How many models were asked about.
pub(super) fn count_models(rows: &[&PredictionRow]) -> usize {
    distinct(rows.iter().map(|row| &row.model)).len()
}

/// The different ones of some values, in their order.
pub(super) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn batch(row: &PredictionRow) -> String {
    format!("batch {}", row.batch_size)
}

/// A name with those properties that a row has.
fn joined(name: &str, row: &PredictionRow, properties: &[Property]) -> String {
    let words = properties.iter().filter_map(|property| property(row));
    [name.to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// The properties that differ among rows.
fn varying(rows: &[&PredictionRow], properties: &[Property]) -> Vec<Property> {
    let differs = |property: &Property| distinct(rows.iter().map(|row| property(row))).len() > 1;
    properties.iter().copied().filter(differs).collect()
}

fn varies_on_a_device(rows: &[&PredictionRow], property: Property) -> bool {
    distinct(rows.iter().map(|row| &row.device)).into_iter().any(|device| {
        let on_device = rows.iter().filter(|row| row.device == *device);
        distinct(on_device.map(|row| property(row))).len() > 1
    })
}

#[cfg(test)]
mod tests {
    use super::{super::answers::tests::row, *};

    /// What is shared and the columns, then each line with its cells' values.
    fn check(rows: &[PredictionRow], headings: (Option<&str>, &[&str]), lines: &[(&str, &[Option<f64>])]) {
        let rows: Vec<&PredictionRow> = rows.iter().collect();
        let matrix = Matrix::of(&rows);
        let columns: Vec<&str> = matrix.columns.iter().map(String::as_str).collect();
        assert_eq!((matrix.shared.as_deref(), columns.as_slice()), headings);
        let value = |cell: Option<&PredictionRow>| cell.and_then(|row| row.predicted);
        let found: Vec<(&str, Vec<Option<f64>>)> = matrix
            .lines
            .iter()
            .map(|(name, cells)| (name.as_str(), cells.iter().copied().map(value).collect()))
            .collect();
        let lines: Vec<(&str, Vec<Option<f64>>)> = lines.iter().map(|(name, cells)| (*name, cells.to_vec())).collect();
        assert_eq!(found, lines);
    }

    fn of(model: &str, device: &str, batch_size: u32, precision: &str, value: f64) -> PredictionRow {
        PredictionRow {
            model: model.to_owned(),
            precision: Some(precision.to_owned()),
            ..row(device, batch_size, Some(value))
        }
    }

    #[test]
    fn one_model_has_a_column_per_batch_size() {
        let rows = [of("a", "X", 1, "amp", 1.0), of("a", "X", 8, "amp", 2.0), of("a", "Y", 1, "fp32", 3.0)];
        let lines: [(&str, &[_]); 2] = [("X amp", &[Some(1.0), Some(2.0)]), ("Y fp32", &[Some(3.0), None])];
        check(&rows, (Some("a"), &["batch 1", "batch 8"]), &lines);
    }

    #[test]
    fn several_models_have_a_column_per_device() {
        let rows = [
            of("a", "X", 8, "amp", 1.0),
            of("a", "Y", 8, "fp32", 2.0),
            of("b", "X", 8, "amp", 3.0),
            of("b", "Y", 8, "fp32", 4.0),
        ];
        // The precision is the device's own, so it is named there.
        let lines: [(&str, &[_]); 2] = [("a", &[Some(1.0), Some(2.0)]), ("b", &[Some(3.0), Some(4.0)])];
        check(&rows, (Some("batch 8"), &["X amp", "Y fp32"]), &lines);
    }

    #[test]
    fn what_differs_on_a_device_is_named_in_the_line() {
        let rows = [
            of("a", "X", 1, "amp", 1.0),
            of("a", "X", 1, "fp32", 2.0),
            of("a", "Y", 1, "amp", 3.0),
            of("b", "X", 1, "amp", 4.0),
        ];
        let lines: [(&str, &[_]); 3] =
            [("a amp", &[Some(1.0), Some(3.0)]), ("a fp32", &[Some(2.0), None]), ("b amp", &[Some(4.0), None])];
        check(&rows, (Some("batch 1"), &["X", "Y"]), &lines);
        let rows = [of("a", "X", 1, "amp", 1.0), of("a", "Y", 4, "amp", 2.0), of("b", "X", 4, "amp", 3.0)];
        let lines: [(&str, &[_]); 3] =
            [("a batch 1", &[Some(1.0), None]), ("a batch 4", &[None, Some(2.0)]), ("b batch 4", &[Some(3.0), None])];
        check(&rows, (None, &["X", "Y"]), &lines);
    }

    #[test]
    fn several_models_on_one_device_have_a_column_per_batch_size() {
        let rows = [of("a", "X", 1, "amp", 1.0), of("a", "X", 8, "amp", 2.0), of("b", "X", 1, "amp", 3.0)];
        let lines: [(&str, &[_]); 2] = [("a", &[Some(1.0), Some(2.0)]), ("b", &[Some(3.0), None])];
        check(&rows, (Some("X"), &["batch 1", "batch 8"]), &lines);
    }
}
