//! The CPU backend: weights in panels, pages of keys and values, states, and a decoder pass over them.

mod buffers;
mod caches;
mod footprint;
mod forward;
mod image;
mod matmuls;
mod pages;
mod program;
mod recorder;
mod states;
mod weights;

pub use footprint::Footprint;
pub use image::{ImageEvent, ImageFile};

use crate::backend::{Backend, BackendError, Observer, Program, ProgramOptions};
use crate::plan::DecoderPlan;
use crate::simd::Tier;
use crate::team::Team;

/// Runs plans on the threads of this machine's CPU with the instructions of one tier.
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend {
    tier: Tier,
}

impl CpuBackend {
    /// The backend for `tier`, or `None` if this CPU lacks it.
    pub fn new(tier: Tier) -> Option<Self> {
        tier.available().then_some(Self { tier })
    }

    /// As [`Backend::compile`]; weights that `image` holds are mapped, not packed.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    pub fn compile_with_image(
        &self,
        plan: DecoderPlan,
        options: &ProgramOptions,
        image: Option<&ImageFile>,
        observer: Observer,
    ) -> Result<Box<dyn Program>, BackendError> {
        if options.bf16 {
            weights::check_bf16(&plan, self.tier)?;
        }
        let mut team = Team::new(options.threads.max(1));
        let model = weights::Model::prepare(plan, options.bf16, image, &mut team, observer)?;
        Ok(Box::new(program::CpuProgram::new(self.tier, model, team, options.kv)?))
    }
}

impl Backend for CpuBackend {
    fn compile(
        &self,
        plan: DecoderPlan,
        options: &ProgramOptions,
        observer: Observer,
    ) -> Result<Box<dyn Program>, BackendError> {
        self.compile_with_image(plan, options, None, observer)
    }
}
