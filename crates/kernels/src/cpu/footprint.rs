//! What a program holds in memory, found without reading its weights.

use super::CpuBackend;
use super::forward::Forward;
use super::pages::Pages;
use super::program::CHUNK;
use super::states::States;
use super::weights::{Model, PackedLayer};
use crate::backend::{BackendError, KvType};
use crate::ops::cache::PAGE;
use crate::plan::DecoderPlan;
use crate::team::Team;

/// Bytes that a program of some plan takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Packed weights of all linear nodes, and the norms.
    pub weights: usize,
    /// Buffers that the layers work in, once prompts have filled them.
    pub activations: usize,
    /// One page of keys and values, all layers.
    pub page: usize,
    /// Positions of a page.
    pub page_positions: usize,
    /// What layers without keys and values keep of a sequence.
    pub state: usize,
}

impl Footprint {
    /// Keys and values of a sequence of so many positions, in whole pages, and its state.
    pub fn cache(&self, positions: usize) -> usize {
        positions.div_ceil(self.page_positions).saturating_mul(self.page).saturating_add(self.state)
    }
}

impl CpuBackend {
    /// What [`Backend::compile`](crate::backend::Backend::compile) would make of the plan. The bytes of its weights are not
    /// read, and may be missing.
    ///
    /// # Errors
    /// Too little memory even for an address space as large as the activations.
    pub fn footprint(&self, plan: &DecoderPlan, kv: KvType) -> Result<Footprint, BackendError> {
        let (model, weights) = Model::without_weights(plan)?;
        let page = Pages::new(model.layers.iter().map(PackedLayer::stored), kv).page_bytes();
        let state = States::new(model.layers.iter()).bytes();
        // Memory that nothing touches costs nothing, so that what is counted is what would be allocated.
        let forward = Forward::new(self.tier, model, Team::new(1), CHUNK)?;
        Ok(Footprint { weights, activations: forward.buffer_bytes(), page, page_positions: PAGE, state })
    }
}
