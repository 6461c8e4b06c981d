//! BERT (arXiv:1810.04805) and its distilled half (arXiv:1910.01108), base size.

use crate::{
    builder::{Activation, Architecture, GraphBuilder, Heads, Mask, Value, int},
    model::{Dim, ElementType},
};

const VOCABULARY: i64 = 30_522;
const POSITIONS: i64 = 512;
const WIDTH: i64 = 768;
const INNER_WIDTH: i64 = 3_072;
const HEADS: Heads = Heads { count: 12, width: 64 };
const EPSILON: f32 = 1e-12;

/// `BertModel` with pooler: inputs and outputs as in the published export.
pub(super) fn bert_base(name: &str) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let attention_mask = g.input("attention_mask", ElementType::Int64, &dims);
    let types = g.input("token_type_ids", ElementType::Int64, &dims);
    let type_table = g.table("embeddings.token_type_embeddings", &[2, WIDTH]);
    let types = g.node("Gather", &[&type_table, &types], Vec::new());
    let hidden = embeddings(&mut g, &tokens, Some(&types));
    let hidden = encoder(&mut g, hidden, &attention_mask, 12);
    let first = g.int(0);
    let first = g.node("Gather", &[&hidden, &first], vec![int("axis", 1)]);
    let pooled = g.gemm("pooler.dense", &first, WIDTH, WIDTH);
    let pooled = g.node("Tanh", &[&pooled], Vec::new());
    g.output("last_hidden_state", &hidden, &[dims[0].clone(), dims[1].clone(), Dim::Fixed(768)]);
    g.output("pooler_output", &pooled, &[dims[0].clone(), Dim::Fixed(768)]);
    g.finish()
}

/// `DistilBertModel`: half the layers, no token types, no pooler.
pub(super) fn distilbert_base(name: &str) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let attention_mask = g.input("attention_mask", ElementType::Int64, &dims);
    let hidden = embeddings(&mut g, &tokens, None);
    let hidden = encoder(&mut g, hidden, &attention_mask, 6);
    g.output("last_hidden_state", &hidden, &[dims[0].clone(), dims[1].clone(), Dim::Fixed(768)]);
    g.finish()
}

fn embeddings(g: &mut GraphBuilder, tokens: &Value, types: Option<&Value>) -> Value {
    g.scoped("embeddings", |g| {
        let words = g.table("word_embeddings", &[VOCABULARY, WIDTH]);
        let mut sum = g.node("Gather", &[&words, tokens], Vec::new());
        if let Some(types) = types {
            sum = g.node("Add", &[&sum, types], Vec::new());
        }
        let table = g.table("position_embeddings", &[POSITIONS, WIDTH]);
        let positions = g.first_rows(&table, tokens);
        let sum = g.node("Add", &[&sum, &positions], Vec::new());
        g.layer_norm("LayerNorm", &sum, WIDTH, EPSILON)
    })
}

fn encoder(g: &mut GraphBuilder, mut hidden: Value, attention_mask: &Value, layers: usize) -> Value {
    // 0 where attention is allowed, -10,000 where it is not, over [batch, 1, 1, sequence].
    let axes = g.ints(&[1, 2]);
    let mask = g.node("Unsqueeze", &[attention_mask, &axes], Vec::new());
    let mask = g.node("Cast", &[&mask], vec![int("to", i64::from(ElementType::Float32.code()))]);
    let (one, never) = (g.scalar(1.0), g.scalar(-10_000.0));
    let mask = g.node("Sub", &[&one, &mask], Vec::new());
    let mask = g.node("Mul", &[&mask, &never], Vec::new());
    for index in 0..layers {
        hidden = g.scoped(&format!("encoder.layer.{index}"), |g| layer(g, &hidden, &mask));
    }
    hidden
}

fn layer(g: &mut GraphBuilder, hidden: &Value, mask: &Value) -> Value {
    let query = g.linear("attention.self.query", hidden, WIDTH, WIDTH, true);
    let key = g.linear("attention.self.key", hidden, WIDTH, WIDTH, true);
    let value = g.linear("attention.self.value", hidden, WIDTH, WIDTH, true);
    let mixed = g.attention([&query, &key, &value], HEADS, Mask::Additive(mask));
    let mixed = g.linear("attention.output.dense", &mixed, WIDTH, WIDTH, true);
    let sum = g.node("Add", &[&mixed, hidden], Vec::new());
    let attended = g.layer_norm("attention.output.LayerNorm", &sum, WIDTH, EPSILON);
    let inner = g.linear("intermediate.dense", &attended, WIDTH, INNER_WIDTH, true);
    let inner = g.activation(&inner, Activation::GeluErf);
    let outer = g.linear("output.dense", &inner, INNER_WIDTH, WIDTH, true);
    let sum = g.node("Add", &[&outer, &attended], Vec::new());
    g.layer_norm("output.LayerNorm", &sum, WIDTH, EPSILON)
}
