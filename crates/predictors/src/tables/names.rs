//! Numbers for the names in a measurement table, so that what was learned of them can be found again.

use std::{collections::HashMap, hash::Hash};

use features::MeasuredRow;
use serde::{Deserialize, Serialize};

/// A class by its names, see [`MeasuredRow::class`]; the device's is the first.
pub(crate) type Class = [Option<String>; 6];

/// The number of each row's name, and how many names there are.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) of_row: Vec<usize>,
    pub(crate) count: usize,
}

/// Every model, family, device and class of a table by its number, counted from 0 in the order of the rows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    models: HashMap<String, usize>,
    families: HashMap<String, usize>,
    devices: HashMap<String, usize>,
    classes: HashMap<Class, usize>,
}

impl Names {
    pub(crate) fn of(rows: &[MeasuredRow]) -> Self {
        let mut names = Self::default();
        names.extend(rows);
        for row in rows {
            number(&mut names.classes, class(row));
        }
        names
    }

    /// Numbers what is new in later rows; known names keep their numbers. How classes vary together is learned of all at
    /// once, so a new one is taken for the one most like it, see [`Self::classes`].
    pub(crate) fn extend(&mut self, rows: &[MeasuredRow]) {
        for row in rows {
            number(&mut self.models, row.model.clone());
            number(&mut self.families, family(row).clone());
            number(&mut self.devices, row.device.clone());
        }
    }

    /// Whether a row's class has a number of its own.
    pub(crate) fn knows_class(&self, row: &MeasuredRow) -> bool {
        self.classes.contains_key(&class(row))
    }

    pub(crate) fn models(&self, rows: &[MeasuredRow]) -> Numbers {
        Self::numbers(&self.models, rows.iter().map(|row| &row.model))
    }

    pub(crate) fn families(&self, rows: &[MeasuredRow]) -> Numbers {
        Self::numbers(&self.families, rows.iter().map(family))
    }

    pub(crate) fn devices(&self, rows: &[MeasuredRow]) -> Numbers {
        Self::numbers(&self.devices, rows.iter().map(|row| &row.device))
    }

    /// As the others, but that an unknown class of a known device has the number of the one most like it.
    pub(crate) fn classes(&self, rows: &[MeasuredRow]) -> Numbers {
        let count = self.classes.len();
        let mut found: HashMap<Class, usize> = HashMap::new();
        let of_row = rows.iter().map(|row| {
            let class = class(row);
            let known = self.classes.get(&class).copied();
            known.unwrap_or_else(|| *found.entry(class).or_insert_with_key(|class| self.most_alike(class)))
        });
        Numbers { of_row: of_row.collect(), count }
    }

    /// The class of the same device, or else of any, that differs in the fewest names.
    fn most_alike(&self, class: &Class) -> usize {
        let differ = |other: &Class| {
            let others = other.iter().zip(class).skip(1).filter(|(other, own)| other != own).count();
            (other[0] != class[0], others)
        };
        let nearest = self.classes.iter().min_by_key(|(other, number)| (differ(other), **number));
        nearest.map_or(0, |(_, number)| *number)
    }

    /// The number of a device's name; one above all if it is unknown.
    pub(crate) fn device(&self, name: &str) -> usize {
        self.devices.get(name).copied().unwrap_or(self.devices.len())
    }

    /// The name of a device by its number, which is one of those given here.
    pub(crate) fn name_of_device(&self, number: usize) -> &str {
        let mut known = self.devices.iter().filter(|(_, other)| **other == number);
        known.next().map(|(name, _)| name.as_str()).expect("the number was given to a name")
    }

    /// Unknown names have numbers above those of the known ones.
    fn numbers<'a>(known: &HashMap<String, usize>, names: impl Iterator<Item = &'a String>) -> Numbers {
        let mut new: HashMap<&String, usize> = HashMap::new();
        let of_row = names.map(|name| {
            known.get(name).copied().unwrap_or_else(|| {
                let next = known.len() + new.len();
                *new.entry(name).or_insert(next)
            })
        });
        let of_row = of_row.collect();
        Numbers { of_row, count: known.len() + new.len() }
    }
}

fn number<N: Eq + Hash>(known: &mut HashMap<N, usize>, name: N) {
    let next = known.len();
    known.entry(name).or_insert(next);
}

/// The number of each row's configuration, on its device; rows that share one are repeats.
pub(crate) fn configurations(rows: &[MeasuredRow]) -> Numbers {
    let mut known = HashMap::new();
    let of_row = rows.iter().map(|row| {
        let sizes = [Some(row.batch_size), row.image_size, row.sequence_length, row.threads];
        let key = (&row.model, row.class(), &row.platform, sizes.map(|size| size.map(f64::to_bits)));
        let next = known.len();
        *known.entry(key).or_insert(next)
    });
    let of_row = of_row.collect();
    Numbers { of_row, count: known.len() }
}

/// A model without a family is one of its own.
pub(crate) fn family(row: &MeasuredRow) -> &String {
    row.family.as_ref().unwrap_or(&row.model)
}

pub(crate) fn class(row: &MeasuredRow) -> Class {
    row.class().map(|name| name.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, device: &str, compiler: Option<&str>) -> MeasuredRow {
        MeasuredRow {
            model: model.to_owned(),
            device: device.to_owned(),
            compiler: compiler.map(str::to_owned),
            ..MeasuredRow::default()
        }
    }

    #[test]
    fn known_names_keep_their_numbers_and_new_ones_get_others() {
        let table = [row("a", "x", Some("eager")), row("b", "y", None), row("a", "y", Some("dynamo"))];
        let names = Names::of(&table);
        assert_eq!(names.models(&table).of_row, [0, 1, 0]);
        assert_eq!(names.classes(&table).of_row, [0, 1, 2]);
        let asked = [row("c", "y", Some("eager")), row("b", "z", None), row("c", "x", None), row("d", "x", None)];
        let models = names.models(&asked);
        assert_eq!((models.of_row, models.count), (vec![2, 1, 2, 3], 4));
        assert_eq!(names.devices(&asked).of_row, [1, 2, 0, 0]);
        assert_eq!(names.families(&asked).of_row, [2, 1, 2, 3], "a model without a family is its own");
    }

    #[test]
    fn repeats_share_their_configuration_whatever_was_measured() {
        let measured = |batch_size, latency_ms| MeasuredRow { batch_size, latency_ms, ..row("a", "x", None) };
        let rows = [measured(1.0, Some(1.0)), measured(2.0, Some(1.0)), measured(1.0, None), row("a", "y", None)];
        let found = configurations(&rows);
        assert_eq!((found.of_row, found.count), (vec![0, 1, 0, 2], 3));
    }

    #[test]
    fn an_unknown_class_is_the_one_most_like_it_on_its_device() {
        let names = Names::of(&[row("a", "x", Some("eager")), row("a", "y", None), row("a", "y", Some("dynamo"))]);
        let asked = [row("a", "x", Some("dynamo")), row("a", "y", Some("dynamo")), row("a", "z", Some("dynamo"))];
        assert_eq!(names.classes(&asked).of_row, [0, 2, 2]);
    }
}
