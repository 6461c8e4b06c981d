//! How much memory a graph's values take while it runs, from when each is made to its last use.
//!
//! Nodes run in the file's order. A view shares its input's buffer; an element-wise operator writes over an input of the
//! same size that nothing else will read, as runtimes plan it. The caller holds inputs and outputs to the end. Weights,
//! and what weights or shapes alone decide, are not counted; nor are buffers inside operators.

use std::collections::HashMap;

use crate::{
    costs::VIEWS,
    model::OnnxModel,
    proto::NodeProto,
    shapes::{ACTIVATIONS, BROADCAST, Fact, Facts},
};

/// What the values of one batch take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Activations {
    /// The most at once, in bytes.
    pub(crate) peak_bytes: u64,
    /// The largest value's name and bytes.
    pub(crate) largest: Option<(String, u64)>,
}

/// Follows every value of `model` from its making to its last use.
pub(crate) fn of_graph(model: &OnnxModel, facts: &Facts) -> Activations {
    let mut plan = Plan::new(model, facts);
    for node in &model.graph().node {
        plan.run(node);
    }
    plan.found
}

struct Plan<'a> {
    facts: &'a Facts,
    /// Uses to come of each value; the caller's is one of them.
    uses: HashMap<&'a str, u64>,
    /// Which buffer a value lies in.
    buffer_of: HashMap<&'a str, usize>,
    buffers: Vec<Buffer>,
    live_bytes: u64,
    found: Activations,
}

struct Buffer {
    bytes: u64,
    /// Uses to come of all values in it.
    uses: u64,
}

impl<'a> Plan<'a> {
    fn new(model: &'a OnnxModel, facts: &'a Facts) -> Self {
        let mut uses: HashMap<&str, u64> = HashMap::new();
        let read = model.graph().node.iter().flat_map(|node| &node.input).map(String::as_str);
        let given = model.graph().output.iter().map(|output| output.name.as_str());
        let held = model.inputs().iter().map(|input| input.name.as_str());
        for name in read.chain(given).chain(held) {
            *uses.entry(name).or_default() += 1;
        }
        let (buffer_of, buffers) = (HashMap::new(), Vec::new());
        let mut plan = Self { facts, uses, buffer_of, buffers, live_bytes: 0, found: Activations::default() };
        for input in model.inputs() {
            plan.allocate(&input.name);
        }
        plan
    }

    /// The value's fact if it takes memory of its own kind.
    fn activation(&self, name: &str) -> Option<&'a Fact> {
        self.facts.get(name).filter(|fact| !fact.constant)
    }

    fn run(&mut self, node: &'a NodeProto) {
        let read: Vec<usize> =
            node.input.iter().filter_map(|name| self.buffer_of.get(name.as_str()).copied()).collect();
        for buffer in &read {
            self.buffers[*buffer].uses -= 1;
        }
        let outputs = || node.output.iter().map(String::as_str).filter(|name| !name.is_empty());
        let mut shared = self.shared_buffer(node, &read);
        for output in outputs() {
            if self.activation(output).is_none() {
                continue;
            }
            match shared.take() {
                Some(buffer) => self.place(output, buffer),
                None => self.allocate(output),
            }
        }
        self.found.peak_bytes = self.found.peak_bytes.max(self.live_bytes);
        let written: Vec<usize> = outputs().filter_map(|name| self.buffer_of.get(name).copied()).collect();
        for buffer in read.into_iter().chain(written) {
            let Buffer { bytes, uses } = &mut self.buffers[buffer];
            if *uses == 0 {
                self.live_bytes -= std::mem::take(bytes);
            }
        }
    }

    /// The buffer that the node's first output needs not be given, because it lies where an input lies.
    fn shared_buffer(&self, node: &NodeProto, read: &[usize]) -> Option<usize> {
        let operator = node.op_type.as_str();
        if VIEWS.contains(&operator) {
            return self.buffer_of.get(node.input.first()?.as_str()).copied();
        }
        if !ACTIVATIONS.contains(&operator) && !BROADCAST.contains(&operator) {
            return None;
        }
        let bytes = self.activation(node.output.first()?)?.bytes();
        read.iter().copied().find(|buffer| self.buffers[*buffer].uses == 0 && self.buffers[*buffer].bytes == bytes)
    }

    fn allocate(&mut self, name: &'a str) {
        let Some(fact) = self.activation(name) else { return };
        let bytes = fact.bytes();
        if self.found.largest.as_ref().is_none_or(|(_, largest)| bytes > *largest) {
            self.found.largest = Some((name.to_owned(), bytes));
        }
        self.live_bytes = self.live_bytes.saturating_add(bytes);
        self.found.peak_bytes = self.found.peak_bytes.max(self.live_bytes);
        self.buffers.push(Buffer { bytes, uses: 0 });
        self.place(name, self.buffers.len() - 1);
    }

    fn place(&mut self, name: &'a str, buffer: usize) {
        self.buffers[buffer].uses += self.uses.get(name).copied().unwrap_or(0);
        self.buffer_of.insert(name, buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        builder::{Activation, GraphBuilder, Value, int, ints},
        model::{Dim, ElementType, Shape},
    };

    /// Peak and largest value, in elements of 4 bytes, of what `body` adds behind an input of `[2, 8]`.
    fn check(body: impl FnOnce(&mut GraphBuilder, &Value) -> Value, expected: (u64, u64)) {
        let mut g = GraphBuilder::new("test");
        let dims = [Dim::symbol("batch"), Dim::Fixed(8)];
        let x = g.input("x", ElementType::Float32, &dims);
        let out = body(&mut g, &x);
        g.output("out", &out, &dims);
        let model = OnnxModel::new(g.finish().structure()).expect("a model");
        let shape = Shape { batch_size: 2, sequence_length: None, image_size: None };
        let found = of_graph(&model, &model.facts(&shape).expect("facts"));
        let largest = found.largest.map_or(0, |(_, bytes)| bytes);
        assert_eq!((found.peak_bytes / 4, largest / 4), expected);
    }

    fn exp(g: &mut GraphBuilder, x: &Value) -> Value {
        g.node("Exp", &[x], Vec::new())
    }

    #[test]
    fn values_live_from_their_making_to_their_last_use() {
        // `Exp` does not write in place here: the input is held, and one value makes room for the next but one.
        let chain = |g: &mut GraphBuilder, x: &Value| {
            let one = exp(g, x);
            let two = exp(g, &one);
            exp(g, &two)
        };
        check(chain, (3 * 16, 16));
        // The first value waits for the last.
        let long = |g: &mut GraphBuilder, x: &Value| {
            let one = exp(g, x);
            let two = exp(g, &one);
            let three = exp(g, &two);
            g.node("Concat", &[&one, &three], vec![int("axis", 1)])
        };
        check(long, ((1 + 1 + 1 + 2) * 16, 32));
    }

    #[test]
    fn activations_write_over_what_nothing_else_reads() {
        let in_place = |g: &mut GraphBuilder, x: &Value| {
            let one = exp(g, x);
            g.activation(&one, Activation::Relu)
        };
        check(in_place, (2 * 16, 16));
        // The caller's input stays.
        check(|g, x| g.activation(x, Activation::Relu), (2 * 16, 16));
        // So does what is read again.
        let again = |g: &mut GraphBuilder, x: &Value| {
            let one = exp(g, x);
            let two = g.activation(&one, Activation::Relu);
            g.node("Concat", &[&one, &two], vec![int("axis", 1)])
        };
        check(again, ((1 + 1 + 1 + 2) * 16, 32));
    }

    #[test]
    fn views_take_no_memory_and_keep_their_buffer() {
        let body = |g: &mut GraphBuilder, x: &Value| {
            let one = exp(g, x);
            let shape = g.ints(&[-1]);
            let view = g.node("Reshape", &[&one, &shape], Vec::new());
            let two = exp(g, &view);
            let three = exp(g, &view);
            g.node("Add", &[&two, &three], Vec::new())
        };
        check(body, (4 * 16, 16));
    }

    #[test]
    fn weights_and_what_they_decide_are_not_counted() {
        let body = |g: &mut GraphBuilder, x: &Value| {
            let weight = g.table("w", &[100, 8]);
            let turned = g.node("Transpose", &[&weight], vec![ints("perm", &[1, 0])]);
            g.node("MatMul", &[x, &turned], Vec::new())
        };
        check(body, (16 + 200, 200));
    }
}
