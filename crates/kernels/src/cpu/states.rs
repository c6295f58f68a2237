//! What layers without keys and values keep of sequences.

use super::weights::PackedLayer;
use crate::backend::BackendError;
use crate::buffer::Buffer;

/// All states of a program. A state holds, layer by layer, the last inputs of its convolution, `[taps - 1, channels]` with the
/// latest last, and then the matrices of its heads.
pub struct States {
    /// Where each layer's part starts.
    starts: Vec<usize>,
    /// Values of a state.
    len: usize,
    states: Vec<State>,
}

struct State {
    values: Buffer<f32>,
    /// Positions of its sequence that it was computed from.
    position: usize,
}

/// The values of a state, or of a layer's part of it.
#[derive(Clone, Copy)]
pub struct StatePtr(pub *mut f32);

// SAFETY: kernels write through it each to a part of their own.
unsafe impl Send for StatePtr {}
// SAFETY: as above.
unsafe impl Sync for StatePtr {}

impl States {
    pub fn new<'a>(layers: impl Iterator<Item = &'a PackedLayer>) -> Self {
        let mut len = 0;
        let start = |layer: &PackedLayer| {
            len += layer.mixer.state_len();
            len - layer.mixer.state_len()
        };
        Self { starts: layers.map(start).collect(), len, states: Vec::new() }
    }

    pub fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }

    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// Where each layer's part of a state starts.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Grows to `count` states, if there are any.
    pub fn reserve(&mut self, count: usize) -> Result<(), BackendError> {
        let before = self.states.len();
        while self.len > 0 && self.states.len() < count {
            match Buffer::zeroed(self.len) {
                Some(values) => self.states.push(State { values, position: 0 }),
                None => {
                    self.states.truncate(before);
                    return Err(BackendError::Memory { what: "states", bytes: count * self.bytes() });
                }
            }
        }
        Ok(())
    }

    pub fn copy(&mut self, from: usize, to: usize) {
        if from != to {
            // SAFETY: two states, borrowed exclusively through `self`.
            unsafe {
                let values = self.states[from].values.slice(0, self.len);
                self.states[to].values.slice_mut(0, self.len).copy_from_slice(values);
            }
            self.states[to].position = self.states[from].position;
        }
    }

    pub fn position(&self, state: u32) -> usize {
        self.states[state as usize].position
    }

    /// Says that a state is about to be computed from so many positions.
    pub fn set_position(&mut self, state: u32, position: usize) {
        self.states[state as usize].position = position;
    }

    pub fn ptr(&self, state: u32) -> StatePtr {
        StatePtr(self.states[state as usize].values.ptr())
    }
}
