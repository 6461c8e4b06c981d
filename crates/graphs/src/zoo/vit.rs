//! Vision Transformer (arXiv:2010.11929) and its distilled sibling `DeiT` (arXiv:2012.12877), patches of 16 pixels.

use crate::{
    builder::{Architecture, Context, GraphBuilder, Layer, Mask, Value, int, ints},
    model::{Dim, ElementType},
};

/// Dimensions of an image encoder.
pub(super) struct Vit {
    /// Edge of the image, in pixels.
    pub(super) image: i64,
    /// Edge of a patch, in pixels.
    pub(super) patch: i64,
    pub(super) layers: usize,
    pub(super) layer: Layer,
    pub(super) tokens: Tokens,
    /// Whether the convolution that makes patches has a bias.
    pub(super) patch_bias: bool,
}

/// Tokens before those of the patches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    None,
    Class,
    ClassAndDistillation,
}

impl Tokens {
    pub(super) const fn count(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Class => 1,
            Self::ClassAndDistillation => 2,
        }
    }
}

impl Vit {
    /// Patches of one image.
    pub(super) const fn patches(&self) -> i64 {
        (self.image / self.patch) * (self.image / self.patch)
    }
}

pub(super) const BASE: Vit = Vit {
    image: 224,
    patch: 16,
    layers: 12,
    layer: Layer::pre_norm(12, 1e-6),
    tokens: Tokens::Class,
    patch_bias: true,
};

pub(super) const TINY: Vit = Vit { layer: Layer::pre_norm(3, 1e-6), ..BASE };

pub(super) const DEIT_TINY: Vit = Vit { tokens: Tokens::ClassAndDistillation, ..TINY };

pub(super) const DEIT_SMALL: Vit = Vit { layer: Layer::pre_norm(6, 1e-6), ..BASE };

pub(super) const MINIATURE: Vit = Vit { image: 64, layers: 2, layer: Layer::pre_norm(2, 1e-6), ..BASE };

pub(super) const DEIT_MINIATURE: Vit = Vit { tokens: Tokens::ClassAndDistillation, ..MINIATURE };

const CLASSES: i64 = 1_000;

/// `ViTForImageClassification`, without the pooler that it does not use; with a distillation token, the mean of its
/// head and the class token's, as `DeiT` answers.
pub(super) fn vit(name: &str, vit: &Vit) -> Architecture {
    let width = vit.layer.width;
    let mut g = GraphBuilder::new(name);
    let batch = Dim::symbol("batch");
    let pixels = image_input(&mut g, vit.image);
    let hidden = patch_tokens(&mut g, vit, &pixels);
    let hidden = g.layers("encoder.layer", vit.layers, hidden, &vit.layer, &Context::of(Mask::Everything));
    let hidden = g.norm("layernorm", &hidden, width, vit.layer.norm);
    let class = g.item(&hidden, 0);
    let mut logits = g.gemm("classifier", &class, width, CLASSES);
    if vit.tokens == Tokens::ClassAndDistillation {
        let distilled = g.item(&hidden, 1);
        let distilled = g.gemm("distillation_classifier", &distilled, width, CLASSES);
        let (sum, two) = (g.node("Add", &[&logits, &distilled], Vec::new()), g.scalar(2.0));
        logits = g.node("Div", &[&sum, &two], Vec::new());
    }
    g.output("logits", &logits, &[batch, Dim::Fixed(1_000)]);
    g.finish()
}

/// Square images of a fixed edge.
pub(super) fn image_input(g: &mut GraphBuilder, edge: i64) -> Value {
    let edge = Dim::Fixed(edge.unsigned_abs());
    g.input("pixel_values", ElementType::Float32, &[Dim::symbol("batch"), Dim::Fixed(3), edge.clone(), edge])
}

/// `[batch, tokens, width]`: one token per patch behind the learned ones, with positions.
pub(super) fn patch_tokens(g: &mut GraphBuilder, vit: &Vit, pixels: &Value) -> Value {
    let width = vit.layer.width;
    g.scoped("embeddings", |g| {
        let kernel = [width, 3, vit.patch, vit.patch];
        let patches = if vit.patch_bias {
            g.conv_bias("patch_embeddings", pixels, &kernel, vit.patch, 0)
        } else {
            g.conv_bare("patch_embeddings", pixels, &kernel, vit.patch)
        };
        let flat = g.ints(&[0, width, -1]);
        let patches = g.node("Reshape", &[&patches, &flat], Vec::new());
        let mut tokens = g.node("Transpose", &[&patches], vec![ints("perm", &[0, 2, 1])]);
        if vit.tokens != Tokens::None {
            let learned = g.table("tokens", &[1, vit.tokens.count(), width]);
            let learned = g.per_item(&learned, pixels, &[vit.tokens.count(), width]);
            tokens = g.node("Concat", &[&learned, &tokens], vec![int("axis", 1)]);
        }
        let positions = g.table("position_embeddings", &[1, vit.patches() + vit.tokens.count(), width]);
        g.node("Add", &[&tokens, &positions], Vec::new())
    })
}
