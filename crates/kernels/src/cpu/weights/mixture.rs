//! Mixtures of experts in the run layout: the panels of each expert stand together.

use super::{LayOut, PackedFeedForward, PackedLinear, check_feed_forward, check_linear, feed_forward, wrong};
use crate::backend::BackendError;
use crate::plan::{Ffn, Mixture, Router, RouterScore};

/// As [`Ffn`].
#[allow(clippy::large_enum_variant)] // One of them in a layer.
pub enum PackedFfn {
    Dense(PackedFeedForward),
    Mixture(PackedMixture),
}

/// As [`Mixture`].
pub struct PackedMixture {
    pub router: PackedRouter,
    pub experts: Vec<PackedFeedForward>,
    pub shared: Option<PackedFeedForward>,
    /// The shared expert's gate.
    pub shared_gate: Option<PackedLinear>,
}

/// As [`Router`].
pub struct PackedRouter {
    pub score: RouterScore,
    pub top_k: usize,
    pub normalized: bool,
    pub scale: f32,
    pub choice_bias: Option<Vec<f32>>,
    pub linear: PackedLinear,
}

impl PackedFeedForward {
    pub(super) fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        self.gate_up.iter().chain([&self.down])
    }
}

impl PackedFfn {
    /// What all positions go through: a dense layer, or the shared expert of a mixture.
    pub fn whole(&self) -> Option<&PackedFeedForward> {
        match self {
            Self::Dense(ffn) => Some(ffn),
            Self::Mixture(mixture) => mixture.shared.as_ref(),
        }
    }

    pub fn mixture(&self) -> Option<&PackedMixture> {
        match self {
            Self::Dense(_) => None,
            Self::Mixture(mixture) => Some(mixture),
        }
    }

    /// What is read first of it.
    pub fn first(&self) -> &[PackedLinear] {
        match (self.whole(), self.mixture()) {
            (Some(ffn), _) => &ffn.gate_up[..1],
            (None, mixture) => mixture.map_or(&[], |mixture| std::slice::from_ref(&mixture.router.linear)),
        }
    }

    /// The nodes that take the layer's input.
    pub fn takers(&self) -> impl Iterator<Item = &PackedLinear> {
        let mixture = self.mixture();
        let experts = mixture.into_iter().flat_map(|m| &m.experts).flat_map(|e| &e.gate_up);
        let gates = mixture.into_iter().flat_map(|m| [Some(&m.router.linear), m.shared_gate.as_ref()]).flatten();
        self.whole().into_iter().flat_map(|ffn| &ffn.gate_up).chain(gates).chain(experts)
    }

    /// In the order of [`Layer::linears`].
    pub(super) fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        let mixture = self.mixture();
        let router = mixture.map(|m| &m.router.linear).into_iter();
        let experts = mixture.into_iter().flat_map(|m| &m.experts).flat_map(PackedFeedForward::linears);
        let gate = mixture.and_then(|m| m.shared_gate.as_ref()).into_iter();
        router.chain(experts).chain(gate).chain(self.whole().into_iter().flat_map(PackedFeedForward::linears))
    }
}

/// Lays out a feed-forward layer or mixture behind the nodes before it.
pub(super) fn lay_out(ffn: &Ffn, linear: LayOut) -> Result<PackedFfn, BackendError> {
    let Mixture { router, experts, shared } = match ffn {
        Ffn::Dense(ffn) => return feed_forward(ffn, linear).map(PackedFfn::Dense),
        Ffn::Mixture(mixture) => mixture,
    };
    let Router { score, top_k, normalized, scale, .. } = *router;
    Ok(PackedFfn::Mixture(PackedMixture {
        router: PackedRouter {
            score,
            top_k,
            normalized,
            scale,
            choice_bias: router.choice_bias.clone(),
            linear: linear(&router.linear)?,
        },
        experts: experts.iter().map(|expert| feed_forward(expert, linear)).collect::<Result<_, _>>()?,
        shared_gate: shared.as_ref().and_then(|s| s.gate.as_ref()).map(&mut *linear).transpose()?,
        shared: shared.as_ref().map(|s| feed_forward(&s.ffn, linear)).transpose()?,
    }))
}

/// Checks what the kernels rely on; `h` is the width of the residual stream.
pub(super) fn check(mixture: &Mixture, h: usize) -> Result<(), BackendError> {
    let Mixture { router, experts, shared } = mixture;
    if router.top_k == 0 || router.top_k > experts.len() {
        return wrong(format!("expected from 1 to {} experts a position, found {}", experts.len(), router.top_k));
    }
    check_linear(&router.linear, experts.len(), h)?;
    if let Some(bias) = &router.choice_bias
        && (bias.len() != experts.len() || router.score != RouterScore::Sigmoid)
    {
        let found = format!("{} of scores by {:?}", bias.len(), router.score);
        return wrong(format!("expected {} biases of scores by Sigmoid, found {found}", experts.len()));
    }
    let width = experts[0].gate.shard.len();
    for expert in experts {
        check_feed_forward(expert, h)?;
        if expert.gate.shard.len() != width {
            return wrong(format!("expected experts of width {width}, found {}", expert.gate.shard.len()));
        }
        if expert.sub_norm.is_some() {
            return wrong("an expert with a norm of its own".to_owned());
        }
    }
    if let Some(shared) = shared {
        check_feed_forward(&shared.ffn, h)?;
        shared.gate.as_ref().map_or(Ok(()), |gate| check_linear(gate, 1, h))?;
    }
    let gates = [Some(&router.linear), shared.as_ref().and_then(|s| s.gate.as_ref())].into_iter().flatten();
    let all = experts.iter().chain(shared.as_ref().map(|s| &s.ffn));
    if all.flat_map(|e| [&e.gate, &e.up, &e.down]).chain(gates).any(|linear| linear.ternary.is_some()) {
        return wrong("a mixture of ternary experts".to_owned());
    }
    Ok(())
}
