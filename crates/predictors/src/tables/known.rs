//! What a measurement table says of models and devices beside its measurements, so that a release can be asked about
//! them by name.

use std::collections::{BTreeMap, BTreeSet};

use features::{DeviceTable, MeasuredRow, ModelOperators, OperatorTable, PublishedDevice};
use serde::{Deserialize, Serialize};

/// Models and devices of a table, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Known {
    models: BTreeMap<String, Model>,
    devices: BTreeMap<String, Device>,
}

/// A model of the table.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Model {
    family: Option<String>,
    /// The shapes in which it was measured.
    shapes: Vec<Shape>,
    /// Its operators in every image size that the operator table has.
    operators: Vec<ModelOperators>,
}

/// What the table has of a model at one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Shape {
    image_size: Option<f64>,
    sequence_length: Option<f64>,
    params_m: Option<f64>,
    gmacs: Option<f64>,
    activations_m: Option<f64>,
    rows: u32,
}

/// A device of the table.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Device {
    platform: Option<String>,
    /// What the device table has of it.
    published: Option<PublishedDevice>,
    /// Whether so little was measured on it that any device's words count for it.
    is_hardly_measured: bool,
    ways: Vec<Way>,
}

/// How models were run: runtime, its version, compiler, precision, layout, threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Way {
    /// On which of the device's platforms: a processor runs native models and those in browsers.
    platform: Option<String>,
    words: [Option<String>; 5],
    threads: Option<f64>,
    rows: u32,
}

impl Known {
    pub(crate) fn of(
        rows: &[MeasuredRow],
        devices: &DeviceTable,
        operators: &OperatorTable,
        is_hardly_measured: impl Fn(&str) -> bool,
    ) -> Self {
        let mut known = Self::default();
        known.extend(rows, devices, operators);
        for (name, device) in &mut known.devices {
            device.is_hardly_measured = is_hardly_measured(name);
        }
        known
    }

    /// Adds what later rows say; what was said before stays where the tables have nothing newer.
    pub(crate) fn extend(&mut self, rows: &[MeasuredRow], devices: &DeviceTable, operators: &OperatorTable) {
        for row in rows {
            let model = self.models.entry(row.model.clone()).or_default();
            if model.family.is_none() {
                model.family.clone_from(&row.family);
            }
            let shape = Shape {
                image_size: row.image_size,
                sequence_length: row.sequence_length,
                params_m: row.params_m,
                gmacs: row.gmacs,
                activations_m: row.activations_m,
                rows: 0,
            };
            count(&mut model.shapes, shape, |shape| &mut shape.rows);
            let device = self.devices.entry(row.device.clone()).or_default();
            if device.platform.is_none() {
                device.platform.clone_from(&row.platform);
            }
            let way = Way { platform: row.platform.clone(), words: words(row), threads: row.threads, rows: 0 };
            count(&mut device.ways, way, |way| &mut way.rows);
        }
        for (name, model) in &mut self.models {
            for described in operators.get(name).into_iter().flatten() {
                match model.operators.iter_mut().find(|known| is_same_size(known, described)) {
                    Some(known) => known.clone_from(described),
                    None => model.operators.push(described.clone()),
                }
            }
        }
        for (name, device) in &mut self.devices {
            if let Some(published) = devices.get(name) {
                device.published = Some(published.clone());
            }
        }
    }

    pub(crate) fn models(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// The platforms that something was measured on.
    pub(crate) fn platforms(&self) -> BTreeSet<&str> {
        self.devices.values().flat_map(|device| &device.ways).filter_map(|way| way.platform.as_deref()).collect()
    }

    /// Devices that were measured on a platform, each with what compiled there: on a web platform, the browser.
    pub(crate) fn measured_on(&self, platform: &str) -> BTreeSet<(&str, Option<&str>)> {
        let on_platform = |way: &&Way| way.platform.as_deref() == Some(platform);
        self.devices
            .iter()
            .flat_map(|(name, device)| {
                let ways = device.ways.iter().filter(on_platform);
                ways.map(move |way| (name.as_str(), way.words[COMPILER].as_deref()))
            })
            .collect()
    }

    /// Sequence lengths at which a model's operators are known.
    pub(crate) fn sequence_lengths(&self, model: &str) -> impl Iterator<Item = f64> {
        let entries = self.models.get(model).map_or(&[][..], |model| &model.operators);
        entries.iter().filter_map(|entry| entry.sequence_length)
    }

    pub(crate) fn family(&self, model: &str) -> Option<&str> {
        self.models.get(model)?.family.as_deref()
    }

    /// Fills in what a question leaves open, from what was measured most often of its model and on its device; a new
    /// device is asked about as those of its platform were measured.
    pub(crate) fn complete(&self, row: &mut MeasuredRow) {
        if let Some(model) = self.models.get(&row.model) {
            model.complete(row);
        }
        if row.platform.is_none() {
            row.platform = self.devices.get(&row.device).and_then(|device| device.platform.clone());
        }
        let ways = self.ways(row);
        let matches =
            |way: &&Way| words(row).iter().zip(&way.words).filter(|(own, way)| own.is_some() && own == way).count();
        if let Some(way) = ways.iter().max_by_key(|way| (matches(way), way.rows)) {
            fill(row, way);
        }
    }

    /// The ways of the row's device, else of its platform's devices, else of all.
    fn ways(&self, row: &MeasuredRow) -> Vec<Way> {
        let all_of = |kept: &dyn Fn(&Device) -> bool| {
            let mut ways: Vec<Way> = Vec::new();
            for way in self.devices.values().filter(|device| kept(device)).flat_map(|device| &device.ways) {
                let is_same = |known: &&mut Way| {
                    (&known.platform, &known.words, known.threads) == (&way.platform, &way.words, way.threads)
                };
                match ways.iter_mut().find(is_same) {
                    Some(known) => known.rows += way.rows,
                    None => ways.push(way.clone()),
                }
            }
            ways
        };
        if let Some(device) = self.devices.get(&row.device) {
            let of_platform: Vec<Way> =
                device.ways.iter().filter(|way| way.platform == row.platform).cloned().collect();
            return if of_platform.is_empty() { device.ways.clone() } else { of_platform };
        }
        let alike = all_of(&|device| device.platform == row.platform);
        if alike.is_empty() { all_of(&|_| true) } else { alike }
    }

    /// Adds what is known of the rows' models and devices to tables, where those say nothing of them.
    pub(crate) fn supplement(&self, rows: &[MeasuredRow], devices: &mut DeviceTable, operators: &mut OperatorTable) {
        for row in rows {
            if !devices.contains_key(&row.device)
                && let Some(published) = self.devices.get(&row.device).and_then(|device| device.published.as_ref())
            {
                devices.insert(row.device.clone(), published.clone());
            }
            if !operators.contains_key(&row.model)
                && let Some(model) = self.models.get(&row.model).filter(|model| !model.operators.is_empty())
            {
                operators.insert(row.model.clone(), model.operators.clone());
            }
        }
    }

    /// Replaces models' operators in sizes that were measured by those that were learned from.
    pub(crate) fn prefer_known_sizes(&self, operators: &mut OperatorTable) {
        for (name, entries) in operators.iter_mut() {
            let Some(model) = self.models.get(name) else { continue };
            for entry in entries {
                if let Some(known) = model.operators.iter().find(|known| is_same_size(known, entry)) {
                    entry.clone_from(known);
                }
            }
        }
    }

    /// The words of a row that were never measured on its device, or if that is new or hardly measured on any; each with
    /// what it is.
    pub(crate) fn strange_words<'a>(&self, row: &'a MeasuredRow) -> Vec<(&'static str, &'a str)> {
        let ways: Vec<&Way> = match self.devices.get(&row.device) {
            Some(device) if !device.is_hardly_measured => device.ways.iter().collect(),
            _ => self.devices.values().flat_map(|device| &device.ways).collect(),
        };
        let own: [Option<&str>; 5] = [
            row.backend.as_deref(),
            row.backend_version.as_deref(),
            row.compiler.as_deref(),
            row.precision.as_deref(),
            row.layout.as_deref(),
        ];
        (0..WORDS.len())
            .filter_map(|index| Some((index, own[index]?)))
            .filter(|(index, own)| !ways.iter().any(|way| way.words[*index].as_deref() == Some(own)))
            .map(|(index, own)| (WORDS[index], own))
            .collect()
    }
}

/// What the words of a way are.
const WORDS: [&str; 5] = ["backend", "backend version", "compiler", "precision", "layout"];

/// Which of them is the compiler, or the browser.
const COMPILER: usize = 2;

fn words(row: &MeasuredRow) -> [Option<String>; 5] {
    [&row.backend, &row.backend_version, &row.compiler, &row.precision, &row.layout].map(Clone::clone)
}

fn fill(row: &mut MeasuredRow, way: &Way) {
    let fields = [&mut row.backend, &mut row.backend_version, &mut row.compiler, &mut row.precision, &mut row.layout];
    for (field, word) in fields.into_iter().zip(&way.words).filter(|(field, _)| field.is_none()) {
        field.clone_from(word);
    }
    row.threads = row.threads.or(way.threads);
}

impl Model {
    fn complete(&self, row: &mut MeasuredRow) {
        if row.family.is_none() {
            row.family.clone_from(&self.family);
        }
        let distance = |shape: &Shape| match (row.image_size, shape.image_size) {
            (Some(asked), Some(measured)) => (asked / measured).ln().abs(),
            _ => 0.0,
        };
        let nearer = |a: &&Shape, b: &&Shape| distance(a).total_cmp(&distance(b)).then(b.rows.cmp(&a.rows));
        let Some(shape) = self.shapes.iter().min_by(nearer) else { return };
        row.image_size = row.image_size.or(shape.image_size);
        row.sequence_length = row.sequence_length.or(shape.sequence_length);
        // MACs and activations grow about with the pixels.
        let resized = match (row.image_size, shape.image_size) {
            (Some(asked), Some(measured)) => (asked / measured).powi(2),
            _ => 1.0,
        };
        row.params_m = row.params_m.or(shape.params_m);
        row.gmacs = row.gmacs.or(shape.gmacs.map(|gmacs| gmacs * resized));
        row.activations_m = row.activations_m.or(shape.activations_m.map(|millions| millions * resized));
    }
}

fn is_same_size(one: &ModelOperators, other: &ModelOperators) -> bool {
    (one.image_size, one.sequence_length) == (other.image_size, other.sequence_length)
}

/// Counts an item among those that are equal but for their count.
fn count<T: Clone + PartialEq>(items: &mut Vec<T>, mut item: T, rows: impl Fn(&mut T) -> &mut u32) {
    for known in items.iter_mut() {
        *rows(&mut item) = *rows(known);
        if *known == item {
            *rows(known) += 1;
            return;
        }
    }
    *rows(&mut item) = 1;
    items.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(device: &str, compiler: &str, image_size: f64) -> MeasuredRow {
        MeasuredRow {
            model: "resnet50".to_owned(),
            family: Some("resnet".to_owned()),
            device: device.to_owned(),
            platform: Some("cuda".to_owned()),
            compiler: Some(compiler.to_owned()),
            precision: Some("amp".to_owned()),
            image_size: Some(image_size),
            gmacs: Some(4.0),
            ..MeasuredRow::default()
        }
    }

    fn asked(device: &str) -> MeasuredRow {
        MeasuredRow { model: "resnet50".to_owned(), device: device.to_owned(), ..MeasuredRow::default() }
    }

    fn known() -> Known {
        let mut rows = vec![row("T4", "eager", 224.0), row("T4", "eager", 224.0), row("T4", "dynamo", 224.0)];
        rows.push(row("L4", "dynamo", 224.0));
        rows.push(row("A10", "dynamo", 224.0));
        Known::of(&rows, &DeviceTable::new(), &OperatorTable::new(), |device| device == "A10")
    }

    #[test]
    fn what_a_question_leaves_open_is_what_was_measured_most_often() {
        let mut question = asked("T4");
        known().complete(&mut question);
        assert_eq!(question.compiler.as_deref(), Some("eager"));
        assert_eq!((question.image_size, question.gmacs), (Some(224.0), Some(4.0)));
        assert_eq!((question.platform.as_deref(), question.family.as_deref()), (Some("cuda"), Some("resnet")));
        let mut new = asked("H100");
        new.platform = Some("cuda".to_owned());
        known().complete(&mut new);
        assert_eq!(new.compiler.as_deref(), Some("dynamo"), "as most rows of its platform");
    }

    /// Browsers may have measured most of what a processor did; a native question is still about native runs.
    #[test]
    fn a_device_is_asked_about_as_its_platform_was_measured() {
        let on = |platform: &str, compiler: Option<&str>| MeasuredRow {
            platform: Some(platform.to_owned()),
            compiler: compiler.map(str::to_owned),
            ..row("EPYC", "", 224.0)
        };
        let rows =
            [on("cpu", None), on("wasm", Some("firefox")), on("wasm", Some("firefox")), on("wasm", Some("edge"))];
        let known = Known::of(&rows, &DeviceTable::new(), &OperatorTable::new(), |_| false);
        let compiler = |platform: Option<&str>| {
            let mut question = MeasuredRow { platform: platform.map(str::to_owned), ..asked("EPYC") };
            known.complete(&mut question);
            question.compiler
        };
        assert_eq!(compiler(None), None, "the platform that was measured first");
        assert_eq!(compiler(Some("wasm")).as_deref(), Some("firefox"));
        assert_eq!(compiler(Some("webnn")).as_deref(), Some("firefox"), "the most usual of all where it is new");
        let browsers = [("EPYC", Some("edge")), ("EPYC", Some("firefox"))];
        assert_eq!(known.measured_on("wasm").into_iter().collect::<Vec<_>>(), browsers);
        assert_eq!(known.measured_on("webgpu").len(), 0);
    }

    #[test]
    fn what_a_question_says_stays() {
        let mut question = asked("T4");
        question.compiler = Some("dynamo".to_owned());
        question.image_size = Some(448.0);
        known().complete(&mut question);
        assert_eq!(question.compiler.as_deref(), Some("dynamo"));
        assert_eq!((question.gmacs, question.precision.as_deref()), (Some(16.0), Some("amp")));
    }

    #[test]
    fn words_that_were_never_measured_are_named() {
        let mut question = row("L4", "eager", 224.0);
        question.precision = Some("int8".to_owned());
        assert_eq!(known().strange_words(&question), [("compiler", "eager"), ("precision", "int8")]);
        question.device = "H100".to_owned();
        assert_eq!(known().strange_words(&question), [("precision", "int8")], "eager was measured on another device");
        question.device = "A10".to_owned();
        assert_eq!(known().strange_words(&question), [("precision", "int8")], "of it hardly anything was measured");
    }
}
