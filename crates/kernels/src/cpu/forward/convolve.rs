//! Convolutions over the positions of spans, with what states keep of those before the chunk.

use super::{Pass, each_row};
use crate::cpu::states::StatePtr;
use crate::cpu::weights::PackedConv;
use crate::ops::conv::MOST_TAPS;
use crate::ops::quantize::QuantizedRows;

/// Where the inputs of a convolution stand: row by row in a buffer.
#[derive(Clone, Copy)]
pub struct Inputs {
    pub x: *const f32,
    pub stride: usize,
}

// SAFETY: only read through while the convolution runs.
unsafe impl Sync for Inputs {}

/// The inputs of one span: those of its rows, which begin with row `first`, and those before them in its state.
#[derive(Clone, Copy)]
struct History<'a> {
    conv: &'a PackedConv,
    inputs: Inputs,
    first: usize,
    state: StatePtr,
}

impl History<'_> {
    /// The input `back` positions before row `row`, at most `taps - 1` before the first.
    fn input(&self, row: usize, back: usize) -> *const f32 {
        match row.checked_sub(back).filter(|at| *at >= self.first) {
            Some(at) => self.inputs.x.wrapping_add(at * self.inputs.stride),
            None => {
                let missing = self.first + back - row;
                self.state.0.wrapping_add((self.conv.taps - 1 - missing) * self.conv.channels)
            }
        }
    }

    /// Copies the last inputs before row `end` to a state, which may be the span's own.
    ///
    /// # Safety
    /// `end` is behind the first row; the states have room, and nothing else touches `to`.
    unsafe fn save(&self, end: usize, to: StatePtr) {
        let PackedConv { taps, channels, .. } = *self.conv;
        for i in 0..taps - 1 {
            let from = self.input(end, taps - 1 - i);
            // SAFETY: each has `channels` values. What comes from the same state stands behind where it goes to.
            unsafe { std::ptr::copy_nonoverlapping(from, to.0.wrapping_add(i * channels), channels) }
        }
    }
}

impl Pass<'_> {
    /// The layer's part of the state of a run's sequence.
    pub(super) fn state(&self, layer: usize, run: usize) -> StatePtr {
        let own = self.states[self.rows[self.runs[run].start].span].own;
        // Programs whose layers have states have states.
        own.map_or(StatePtr(std::ptr::null_mut()), |own| StatePtr(own.0.wrapping_add(self.state_starts[layer])))
    }

    /// The copies to leave of the run's state: behind which row, and where the layer's part of each starts.
    pub(super) fn copies(&self, layer: usize, run: usize) -> impl Iterator<Item = (usize, StatePtr)> + '_ {
        let rows = self.runs[run].clone();
        let first = self.rows[rows.start];
        let copies = &self.states[first.span].copies;
        let behind = move |(position, state): &(usize, StatePtr)| {
            let row = rows.start + position.checked_sub(first.position).filter(|n| *n > 0)?;
            (row <= rows.end).then(|| (row, StatePtr(state.0.wrapping_add(self.state_starts[layer]))))
        };
        copies.iter().filter_map(behind)
    }

    /// Whether the run is the beginning of its sequence.
    pub(super) fn begins(&self, run: usize) -> bool {
        self.rows[self.runs[run].start].position == 0
    }

    /// Calls `step` with each row, the inputs under the taps, and the first quantized buffer, then moves the states of layer `layer` on.
    pub(super) fn convolve(
        &mut self,
        layer: usize,
        conv: &PackedConv,
        inputs: Inputs,
        step: &(dyn Fn(usize, &[*const f32], &QuantizedRows) + Sync),
    ) {
        let runs = 0..self.runs.len();
        let history = |run: usize| History { conv, inputs, first: self.runs[run].start, state: self.state(layer, run) };
        let histories: Vec<History> = runs.clone().map(history).collect();
        for (_, history) in histories.iter().enumerate().filter(|(run, _)| self.begins(*run)) {
            // SAFETY: zeros are values, and nothing else touches the state now.
            unsafe { history.state.0.write_bytes(0, conv.state_len()) }
        }
        let copies: Vec<Vec<_>> = runs.map(|run| self.copies(layer, run).collect()).collect();
        let (ends, taps, quantized) = (&self.runs, conv.taps, &self.quantized[0]);
        each_row(self.team, self.rows.len(), &|r| {
            let history = &histories[ends.partition_point(|run| run.end <= r)];
            let mut under = [std::ptr::null(); MOST_TAPS];
            for (tap, input) in under[..taps].iter_mut().enumerate() {
                *input = history.input(r, taps - 1 - tap);
            }
            step(r, &under[..taps], quantized);
        });
        each_row(self.team, histories.len(), &|run| {
            // SAFETY: each state is in one span of the batch; its own comes last, after it has been copied from.
            unsafe {
                for (end, state) in &copies[run] {
                    histories[run].save(*end, *state);
                }
                histories[run].save(ends[run].end, histories[run].state);
            }
        });
    }
}
