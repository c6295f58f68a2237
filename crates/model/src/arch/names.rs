//! Tensor names: the canonical ones, which are GGUF's, and those of Hugging Face checkpoints.

/// The plain decoder's tensors, `(canonical, Hugging Face)`, without `.weight`; `{}` stands for the layer.
pub const COMMON: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("blk.{}.attn_norm", "model.layers.{}.input_layernorm"),
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"),
    ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

/// RMS norms of each head's queries and keys.
pub const QK_NORM: &[(&str, &str)] = &[
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
];

/// RMS norms of what attention and the feed-forward layer add, beside those before them.
pub const NORMS_AROUND: &[(&str, &str)] = &[
    ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"),
    ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
];

/// Tensors with names of their own, which have neither a weight's nor a bias's ending in one of the formats: of a delta
/// net, and of experts.
pub const WHOLE: &[(&str, &str)] = &[
    ("blk.{}.ssm_a", "model.layers.{}.linear_attn.A_log"),
    ("blk.{}.ssm_dt.bias", "model.layers.{}.linear_attn.dt_bias"),
    ("blk.{}.exp_probs_b.bias", "model.layers.{}.feed_forward.expert_bias"),
];

/// What Hugging Face files name without `.weight`.
const BARE: &[&str] = &["layer_scalar"];

/// Whether a name in Hugging Face files, without `.weight`, is all of it.
pub fn is_bare(name: &str) -> bool {
    BARE.iter().any(|bare| name.strip_suffix(bare).is_some_and(|before| before.ends_with('.')))
}

type Pair = (&'static str, &'static str);

/// Rewrites `name` from one pattern of a pair to the other: `direction` orders a pair as (from, to).
pub fn translate(name: &str, pairs: impl Iterator<Item = Pair>, direction: fn(Pair) -> Pair) -> Option<String> {
    if let Some(whole) = WHOLE.iter().find_map(|pair| rewrite(name, direction(*pair))) {
        return Some(whole);
    }
    let split = || name.rsplit_once('.').filter(|(_, ending)| ["weight", "bias"].contains(ending));
    let (stem, ending) = if is_bare(name) { (name, "weight") } else { split()? };
    let mut pairs = pairs;
    let found = pairs.find_map(|pair| rewrite(stem, direction(pair)));
    found.map(|stem| if is_bare(&stem) { stem } else { format!("{stem}.{ending}") })
}

/// `name` by the second pattern, if the first one matches.
fn rewrite(name: &str, (from, to): Pair) -> Option<String> {
    let Some((before, after)) = from.split_once("{}") else {
        return (name == from).then(|| to.to_owned());
    };
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    let is_number = !layer.is_empty() && layer.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| to.replace("{}", layer))
}

/// The names of both.
pub const fn joined<const N: usize>(
    first: &[(&'static str, &'static str)],
    second: &[(&'static str, &'static str)],
) -> [(&'static str, &'static str); N] {
    assert!(N == first.len() + second.len());
    let mut all = [("", ""); N];
    let mut i = 0;
    while i < N {
        all[i] = if i < first.len() { first[i] } else { second[i - first.len()] };
        i += 1;
    }
    all
}
