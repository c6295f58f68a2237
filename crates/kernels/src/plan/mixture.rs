//! Mixtures of experts: feed-forward layers of which each position takes a few.

use super::{FeedForward, Linear};

/// How a router makes weights of its scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RouterScore {
    /// `e^x / Σ e^x` over all experts.
    #[default]
    Softmax,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

/// Chooses the experts of a position: those with the highest scores, of equal ones the first.
#[derive(Clone, Debug)]
pub struct Router {
    pub score: RouterScore,
    /// Experts of a position.
    pub top_k: usize,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub normalized: bool,
    /// Multiplies the weights.
    pub scale: f32,
    /// `[experts]`: added to what scores become, sigmoids, when experts are chosen, and not in their weights.
    pub choice_bias: Option<Vec<f32>>,
    /// `[experts, hidden]`.
    pub linear: Linear,
}

/// What every position takes beside its experts.
#[derive(Clone, Debug)]
pub struct SharedExpert {
    pub ffn: FeedForward,
    /// `[1, hidden]`: its output's weight is the sigmoid of this one's; 1 if there is none.
    pub gate: Option<Linear>,
}

/// A mixture of experts: `Σ weight(e) * expert(e, x)` over the experts e that the router chooses for x, in ascending order,
/// and then the shared expert.
#[derive(Clone, Debug)]
pub struct Mixture {
    pub router: Router,
    /// All with gate and up of one width, and without norms of their own.
    pub experts: Vec<FeedForward>,
    pub shared: Option<SharedExpert>,
}

/// What a layer does with each position after attention.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // One of them in a layer.
pub enum Ffn {
    Dense(FeedForward),
    Mixture(Mixture),
}

impl From<FeedForward> for Ffn {
    fn from(ffn: FeedForward) -> Self {
        Self::Dense(ffn)
    }
}

impl From<Mixture> for Ffn {
    fn from(mixture: Mixture) -> Self {
        Self::Mixture(mixture)
    }
}

impl FeedForward {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.gate, &self.up, &self.down].into_iter()
    }
}

impl Ffn {
    /// Its linear nodes, and the share of positions that meet each: the router, all experts, the shared one.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&Linear, f64)> {
        let (dense, mixture) = match self {
            Self::Dense(ffn) => (Some(ffn), None),
            Self::Mixture(mixture) => (None, Some(mixture)),
        };
        let experts = mixture.into_iter().flat_map(|m| {
            let share = m.router.top_k as f64 / m.experts.len().max(1) as f64;
            m.experts.iter().flat_map(FeedForward::linears).map(move |linear| (linear, share))
        });
        let shared = mixture.and_then(|m| m.shared.as_ref());
        let always = |linear| (linear, 1.0);
        let router = mixture.map(|m| &m.router.linear).into_iter().map(always);
        let gate = shared.and_then(|s| s.gate.as_ref()).into_iter().map(always);
        let whole = dense.into_iter().chain(shared.map(|s| &s.ffn)).flat_map(FeedForward::linears).map(always);
        router.chain(experts).chain(gate).chain(whole)
    }
}
