//! Entries with `{placeholders}` become one object for every member of their sets.

use std::collections::BTreeMap;

use serde_saphyr::Spanned;

use crate::{
    ArgumentValue, Binding, Exchange, Problem, Queue, Topology, TopologyError, arguments,
    file::{File, QueueEntry, Scalar},
};

/// Most exchanges or queues that one entry may expand to.
const ENTRY_OBJECTS_MAX: usize = 10_000;

/// Where each object of a topology was declared, in the order of the topology's lists; lines count from 1.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) exchanges: Vec<u64>,
    pub(crate) queues: Vec<u64>,
    pub(crate) bindings: Vec<u64>,
}

/// One member for each placeholder.
type Members<'a> = BTreeMap<&'a str, &'a str>;

/// Expands every entry.
///
/// # Errors
///
/// [`TopologyError::Invalid`] with every placeholder, argument name and value that is wrong.
pub(crate) fn expand(file: &File) -> Result<(Topology, Lines), TopologyError> {
    let mut expansion = Expansion { file, problems: Vec::new() };
    let mut topology = Topology { exchanges: Vec::new(), queues: Vec::new(), bindings: Vec::new() };
    let mut lines = Lines::default();
    for entry in &file.exchanges {
        for members in expansion.members(&entry.name) {
            let alternate_exchange = entry.alternate_exchange.as_ref();
            topology.exchanges.push(Exchange {
                name: expansion.fill(&entry.name, &members),
                kind: entry.kind,
                alternate_exchange: alternate_exchange.map(|name| expansion.fill(name, &members)),
            });
            lines.exchanges.push(line(&entry.name));
        }
    }
    for entry in &file.queues {
        for members in expansion.members(&entry.name) {
            let name = expansion.fill(&entry.name, &members);
            for binding in &entry.bindings {
                topology.bindings.push(Binding {
                    exchange: expansion.fill(&binding.exchange, &members),
                    queue: name.clone(),
                    routing_key: expansion.fill(&binding.routing_key, &members),
                });
                lines.bindings.push(line(&binding.exchange));
            }
            topology.queues.push(Queue { name, kind: entry.kind, arguments: expansion.arguments(entry, &members) });
            lines.queues.push(line(&entry.name));
        }
    }
    let mut problems = expansion.problems;
    if problems.is_empty() {
        return Ok((topology, lines));
    }
    // Every member of a family repeats the problems of its entry.
    problems.sort();
    problems.dedup();
    Err(TopologyError::Invalid { problems })
}

struct Expansion<'a> {
    file: &'a File,
    problems: Vec<Problem>,
}

impl<'a> Expansion<'a> {
    /// Every combination of members for the placeholders in a name; one empty combination if it has none.
    fn members(&mut self, name: &'a Spanned<String>) -> Vec<Members<'a>> {
        let mut combinations = vec![Members::new()];
        for placeholder in placeholders(&name.value) {
            let Some(set) = self.file.sets.get(placeholder) else {
                self.problem(name, format!("`{{{placeholder}}}` in `{}` names no set", name.value));
                return Vec::new();
            };
            if combinations.len().saturating_mul(set.value.len()) > ENTRY_OBJECTS_MAX {
                self.problem(name, format!("`{}` expands to more than {ENTRY_OBJECTS_MAX} objects", name.value));
                return Vec::new();
            }
            combinations = combinations
                .iter()
                .flat_map(|members| {
                    set.value.iter().map(|member| {
                        let mut members = members.clone();
                        members.insert(placeholder, member.as_str());
                        members
                    })
                })
                .collect();
        }
        combinations
    }

    /// The text with its placeholders replaced; a text may use those of its entry's name.
    fn fill(&mut self, text: &Spanned<String>, members: &Members<'_>) -> String {
        self.fill_text(&text.value, line(text), members)
    }

    fn fill_text(&mut self, text: &str, line: u64, members: &Members<'_>) -> String {
        let mut filled = text.to_owned();
        for placeholder in placeholders(text) {
            match members.get(placeholder) {
                Some(member) => filled = filled.replace(&format!("{{{placeholder}}}"), member),
                None => self.problems.push(Problem {
                    line,
                    message: format!("`{{{placeholder}}}` in `{text}` is not in its entry's name"),
                }),
            }
        }
        filled
    }

    fn arguments(&mut self, entry: &QueueEntry, members: &Members<'_>) -> BTreeMap<String, ArgumentValue> {
        let kind = ArgumentValue::Text(entry.kind.as_str().to_owned());
        let mut values = BTreeMap::from([(arguments::QUEUE_TYPE.to_owned(), kind)]);
        for (name, written) in &entry.arguments {
            let scalar = match &written.value {
                Scalar::Text(text) => Scalar::Text(self.fill_text(text, line(written), members)),
                other => other.clone(),
            };
            match arguments::read(entry.kind, name, &scalar) {
                Ok(value) => {
                    values.insert(name.clone(), value);
                }
                Err(message) => self.problem(written, message),
            }
        }
        values
    }

    fn problem<T>(&mut self, at: &Spanned<T>, message: String) {
        self.problems.push(Problem { line: line(at), message });
    }
}

fn line<T>(spanned: &Spanned<T>) -> u64 {
    spanned.referenced.line()
}

/// The words between `{` and `}`, in order; an unclosed brace starts none.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(word, _)| word))
}
