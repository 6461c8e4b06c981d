//! BERT (arXiv:1810.04805), its compact sizes (arXiv:1908.08962), its distilled half (arXiv:1910.01108), and the text
//! encoders of other models that have the same layers.

use crate::{
    builder::{Architecture, Context, GraphBuilder, Layer, Mask, Norm, Value},
    model::{Dim, ElementType},
};

/// Dimensions of a text encoder.
pub(super) struct Bert {
    pub(super) vocabulary: i64,
    pub(super) positions: i64,
    /// Row of the table of positions where counting begins.
    pub(super) first_position: i64,
    /// Token types; 0 if there are none.
    pub(super) types: i64,
    pub(super) layers: usize,
    pub(super) layer: Layer,
    /// Whether the first token's state goes through a layer of its own.
    pub(super) pooler: bool,
}

pub(super) const BASE: Bert = Bert {
    vocabulary: 30_522,
    positions: 512,
    first_position: 0,
    types: 2,
    layers: 12,
    layer: Layer::post_norm(12, 1e-12),
    pooler: true,
};

pub(super) const TINY: Bert = Bert { layers: 2, layer: Layer::post_norm(2, 1e-12), ..BASE };

/// Half the layers, no token types, no pooler.
pub(super) const DISTILBERT: Bert = Bert { types: 0, layers: 6, pooler: false, ..BASE };

pub(super) const MINIATURE: Bert = Bert { vocabulary: 1_000, positions: 64, ..TINY };

pub(super) const DISTILBERT_MINIATURE: Bert = Bert { types: 0, pooler: false, ..MINIATURE };

/// `BertModel` or `DistilBertModel`: inputs and outputs as in the published exports.
pub(super) fn bert(name: &str, bert: &Bert) -> Architecture {
    let mut g = GraphBuilder::new(name);
    let dims = [Dim::symbol("batch"), Dim::symbol("sequence")];
    let tokens = g.input("input_ids", ElementType::Int64, &dims);
    let attention_mask = g.input("attention_mask", ElementType::Int64, &dims);
    let types = (bert.types > 0).then(|| g.input("token_type_ids", ElementType::Int64, &dims));
    let (hidden, pooled) = text_encoder(&mut g, bert, &tokens, &attention_mask, types.as_ref());
    let width = Dim::Fixed(bert.layer.width.unsigned_abs());
    g.output("last_hidden_state", &hidden, &[dims[0].clone(), dims[1].clone(), width.clone()]);
    if let Some(pooled) = pooled {
        g.output("pooler_output", &pooled, &[dims[0].clone(), width]);
    }
    g.finish()
}

/// Hidden states and, if there is a pooler, the pooled first one.
pub(super) fn text_encoder(
    g: &mut GraphBuilder,
    bert: &Bert,
    tokens: &Value,
    attention_mask: &Value,
    types: Option<&Value>,
) -> (Value, Option<Value>) {
    let width = bert.layer.width;
    let hidden = embeddings(g, bert, tokens, types);
    let mask = g.padding_mask(attention_mask);
    let hidden = g.layers("encoder.layer", bert.layers, hidden, &bert.layer, &Context::of(Mask::Additive(&mask)));
    let pooled = bert.pooler.then(|| {
        let first = g.item(&hidden, 0);
        let pooled = g.gemm("pooler.dense", &first, width, width);
        g.node("Tanh", &[&pooled], Vec::new())
    });
    (hidden, pooled)
}

/// Tokens, their positions and their types, normed; without `types` every token has the first type, if there are any.
pub(super) fn embeddings(g: &mut GraphBuilder, bert: &Bert, tokens: &Value, types: Option<&Value>) -> Value {
    let Bert { vocabulary, positions, first_position, .. } = *bert;
    let Layer { width, norm, .. } = bert.layer;
    g.scoped("embeddings", |g| {
        let mut sum = g.token_embeddings(tokens, vocabulary, positions, first_position, width);
        if bert.types > 0 {
            let table = g.table("token_type_embeddings", &[bert.types, width]);
            let types = match types {
                Some(types) => g.node("Gather", &[&table, types], Vec::new()),
                None => table,
            };
            sum = g.node("Add", &[&sum, &types], Vec::new());
        }
        let epsilon = match norm {
            Norm::Layer(epsilon) | Norm::Rms(epsilon) => epsilon,
        };
        g.layer_norm("LayerNorm", &sum, width, epsilon)
    })
}
