//! What a tensor's name and shape say of how to treat it.

use std::cmp::Ordering;

use kernels::DType;

/// What the choice of a type depends on.
#[derive(Clone, Copy, Debug)]
pub struct TensorFacts<'a> {
    pub name: &'a str,
    /// Row-major, outermost first.
    pub shape: &'a [usize],
    /// The type in the source.
    pub dtype: DType,
}

/// The order of tensors in a quantized file: those outside layers first, then by layer, and by name.
pub fn file_order(a: &str, b: &str) -> Ordering {
    layer(a).cmp(&layer(b)).then_with(|| a.cmp(b))
}

/// The number N of a name `blk.N.…`.
pub(crate) fn layer(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("blk.")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

/// Kinds of tensors that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Output,
    Embedding,
    /// V, or a matrix that V is a part of.
    AttentionV,
    AttentionK,
    AttentionQ,
    AttentionOutput,
    FfnUp,
    FfnGate,
    FfnDown,
    Other,
}

impl Category {
    pub fn of(name: &str) -> Self {
        let has = |part| name.contains(part);
        match name {
            "output.weight" => Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Self::Embedding,
            _ if has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight") => Self::AttentionV,
            _ if has("attn_k.weight") => Self::AttentionK,
            _ if has("attn_q.weight") => Self::AttentionQ,
            _ if has("attn_output.weight") => Self::AttentionOutput,
            _ if has("ffn_up") => Self::FfnUp,
            _ if has("ffn_gate") => Self::FfnGate,
            _ if has("ffn_down") => Self::FfnDown,
            _ => Self::Other,
        }
    }
}

/// Names of weights that are too small or too delicate to quantize: norms, routers, positions, convolutions and state of
/// recurrent layers, projectors of other media. The list is the reference's.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Whole names of weights that are kept.
const KEPT_NAMES: &[&str] = &["position_embd.weight", "token_types.weight"];

impl TensorFacts<'_> {
    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Whether the tensor may change its type: matrices and stacks of matrices with few exceptions, no vectors.
    pub(crate) fn may_change(&self) -> bool {
        let vector = self.shape.iter().rev().skip(1).all(|&n| n == 1);
        let kept = KEPT.iter().any(|part| self.name.contains(part)) || KEPT_NAMES.contains(&self.name);
        !vector && self.name.ends_with("weight") && !kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbers_not_text() {
        let mut names = ["blk.10.a", "output.weight", "blk.9.b", "blk.9.a", "blk.x.a", "token_embd.weight"];
        names.sort_by(|a, b| file_order(a, b));
        assert_eq!(names, ["blk.x.a", "output.weight", "token_embd.weight", "blk.9.a", "blk.9.b", "blk.10.a"]);
        assert_eq!((layer("blk.7.ffn_up.weight"), layer("blk..x"), layer("a.blk.7.")), (Some(7), None, None));
        assert_eq!(layer("blk.99999999999.x"), None);
    }

    #[test]
    fn matrices_change_and_vectors_do_not() {
        let may = |name, shape: &[usize]| TensorFacts { name, shape, dtype: DType::F16 }.may_change();
        assert!(may("blk.0.attn_q.weight", &[8, 32]));
        assert!(may("blk.0.ffn_up_exps.weight", &[4, 8, 32]));
        assert!(may("blk.0.attn_q.weight", &[8, 1]));
        assert!(!may("blk.0.attn_q.weight", &[1, 32]));
        assert!(!may("blk.0.attn_q.weight", &[32]));
        assert!(!may("blk.0.attn_q.bias", &[8, 32]));
        assert!(!may("blk.0.attn_q_norm.weight", &[8, 32]));
        assert!(!may("position_embd.weight", &[8, 32]));
    }
}
