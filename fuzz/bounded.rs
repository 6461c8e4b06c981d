//! The fuzz targets on a bounded number of damaged inputs, as a part of `cargo test`.

mod inputs;
mod suite_input;

use std::{fs, path::PathBuf};

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_oneof},
    sample::Index,
    test_runner::{Config, TestRunner},
};

/// Damaged copies of each input: a second or two in all.
const CASES: u32 = 4_000;
/// Damages to one copy, at most.
const DAMAGES_MAX: usize = 6;

/// One damage.
#[derive(Debug, Clone)]
enum Damage {
    /// Another byte at this place.
    Replace(Index, u8),
    /// A byte more.
    Insert(Index, u8),
    /// A byte less.
    Remove(Index),
    /// The end is missing.
    Truncate(Index),
    /// A piece of the input once more, elsewhere.
    Copy(Index, Index, Index),
    /// A word that means something in some of the formats.
    Word(Index, &'static str),
}

/// Words of YAML and numbers at the edges of types.
const WORDS: &[&str] = &[
    "18446744073709551616",
    "-1",
    "1e308",
    ".nan",
    "null",
    "{}",
    "[]",
    "{platform}",
    "&a",
    "*a",
    "<<: ",
    "\t",
    "- ",
    ": ",
    "\u{0}",
    "!!binary",
    "4294967296",
    "2_000_000",
    "0x7fffffff",
];

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Truncate),
        (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(at, from, to)| Damage::Copy(at, from, to)),
        (any::<Index>(), proptest::sample::select(WORDS)).prop_map(|(at, word)| Damage::Word(at, word)),
    ]
}

fn apply(input: &mut Vec<u8>, damage: &Damage) {
    if input.is_empty() {
        return;
    }
    let length = input.len();
    match damage {
        Damage::Replace(at, byte) => input[at.index(length)] = *byte,
        Damage::Insert(at, byte) => input.insert(at.index(length), *byte),
        Damage::Remove(at) => drop(input.remove(at.index(length))),
        Damage::Truncate(at) => input.truncate(at.index(length)),
        Damage::Copy(at, from, to) => {
            let (from, to) = (from.index(length), to.index(length));
            let piece = input[from.min(to)..from.max(to)].to_vec();
            let at = at.index(length);
            input.splice(at..at, piece);
        }
        Damage::Word(at, word) => {
            let at = at.index(length);
            input.splice(at..at, word.bytes());
        }
    }
}

/// Runs `check` on each file as it is and on damaged copies of it.
fn check_damaged(files: &[PathBuf], prefix: &[u8], check: fn(&[u8])) {
    assert!(!files.is_empty(), "there is nothing to damage");
    for file in files {
        let mut input = prefix.to_vec();
        input.extend(fs::read(file).expect("a readable file"));
        check(&input);
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let damaged = runner.run(&vec(damage(), 1..=DAMAGES_MAX), |damages| {
            let mut input = input.clone();
            for damage in &damages {
                apply(&mut input, damage);
            }
            check(&input);
            Ok(())
        });
        damaged.unwrap_or_else(|failure| panic!("{}: {failure}", file.display()));
    }
}

/// The files of a folder of the repository.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn damaged_messages_are_refused_or_survive_another_round() {
    for version in 1..=2 {
        let of_version = format!(".v{version}.msgpack");
        let mut files = files("crates/messages/golden");
        files.retain(|file| file.to_string_lossy().ends_with(&of_version));
        check_damaged(&files, &[version], inputs::message::check);
    }
}

#[test]
fn damaged_suites_are_refused_or_expand() {
    check_damaged(&files("deploy/suites"), &[], suite_input::check);
}

#[test]
fn damaged_topologies_are_refused_or_planned() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../queues.yaml");
    check_damaged(&[file], &[], inputs::topology_file::check);
}
