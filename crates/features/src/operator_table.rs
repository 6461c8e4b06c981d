//! Operator tables: the costs of models' graphs, one JSON object per line and per model and image size.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use messages::{OperatorCost, OperatorKind, UnknownWord};
use serde::{Deserialize, Serialize};

use crate::FeatureError;

/// The fields of one operator, in order.
const FIELDS: [&str; 6] = ["kind", "macs", "activation_elements", "weight_elements", "kernel_size", "count"];

/// A model's operators at batch 1 and one image size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Entry", into = "Entry")]
pub struct ModelOperators {
    /// Pixels per image edge that they were counted at; `None` for models without images.
    pub image_size: Option<f64>,
    /// Tokens per item that they were counted at; `None` for models without sequences.
    pub sequence_length: Option<f64>,
    /// The most activation elements that are held at once; `None` where nobody followed the tensors' lifetimes.
    pub activation_peak_elements: Option<f64>,
    /// The distinct operators.
    pub operators: Vec<OperatorCost>,
}

/// Operators of models by name, in every size that is known.
pub type OperatorTable = BTreeMap<String, Vec<ModelOperators>>;

#[derive(Deserialize)]
struct Line {
    model: String,
    #[serde(default)]
    fields: Option<Vec<String>>,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    image_size: Option<f64>,
    #[serde(default)]
    sequence_length: Option<f64>,
    #[serde(default)]
    activation_peak_elements: Option<f64>,
    /// Each as [`FIELDS`] says.
    operators: Vec<(String, u64, u64, u64, u32, u32)>,
}

impl TryFrom<Entry> for ModelOperators {
    type Error = UnknownWord;

    fn try_from(entry: Entry) -> Result<Self, UnknownWord> {
        let operators = entry
            .operators
            .into_iter()
            .map(|(kind, macs, activation_elements, weight_elements, kernel_size, count)| {
                let kind = kind.parse::<OperatorKind>()?;
                Ok(OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count })
            })
            .collect::<Result<_, UnknownWord>>()?;
        let Entry { image_size, sequence_length, activation_peak_elements, .. } = entry;
        Ok(Self { image_size, sequence_length, activation_peak_elements, operators })
    }
}

impl From<ModelOperators> for Entry {
    fn from(model: ModelOperators) -> Self {
        let fields = |operator: OperatorCost| {
            let OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count } = operator;
            (kind.as_str().to_owned(), macs, activation_elements, weight_elements, kernel_size, count)
        };
        Self {
            image_size: model.image_size,
            sequence_length: model.sequence_length,
            activation_peak_elements: model.activation_peak_elements,
            operators: model.operators.into_iter().map(fields).collect(),
        }
    }
}

/// Reads an operator table, gzipped where its name ends in `.gz`.
///
/// # Errors
///
/// [`FeatureError::File`] if it cannot be read, [`FeatureError::BadRow`] names the first line that is no entry.
pub fn read_operators(path: &Path) -> Result<OperatorTable, FeatureError> {
    let failed = |source| FeatureError::File { action: "read operator table", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let text: Box<dyn Read> = if path.extension().is_some_and(|end| end == "gz") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut table = OperatorTable::new();
    for (index, line) in BufReader::new(text).lines().enumerate() {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let (model, operators) =
            parse(&line).map_err(|reason| FeatureError::BadRow { path: path.to_owned(), line: index + 1, reason })?;
        table.entry(model).or_default().push(operators);
    }
    Ok(table)
}

fn parse(line: &str) -> Result<(String, ModelOperators), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.fields.is_some_and(|fields| fields != FIELDS) {
        return Err(format!("`fields` is not {FIELDS:?}"));
    }
    let operators = ModelOperators::try_from(line.entry).map_err(|error| error.to_string())?;
    Ok((line.model, operators))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_read_and_a_bad_line_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("operators.jsonl");
        let good = r#"{"model": "a", "image_size": 224, "operators": [["conv", 10, 20, 30, 3, 2]]}"#;
        std::fs::write(&path, format!("{good}\n")).expect("written");
        let table = read_operators(&path).expect("read");
        assert_eq!(table["a"][0].operators[0].weight_elements, 30);
        let bad = good.replace("conv", "abacus");
        std::fs::write(&path, format!("{good}\n{bad}\n")).expect("written");
        let error = read_operators(&path).expect_err("no such kind").to_string();
        assert!(error.contains("operators.jsonl:2") && error.contains("abacus"), "{error}");
    }
}
