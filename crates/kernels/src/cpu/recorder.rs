//! What linear nodes are given: sums of squares of each column, for whoever asks.

use std::collections::HashMap;

use super::matmuls::Input;
use super::weights::{Model, PackedLinear, zeroed};
use crate::backend::BackendError;
use crate::buffer::Buffer;
use crate::team::Team;

/// Columns that a thread sums at a time.
const COLUMNS: usize = 128;

/// Sums of all nodes but the head. Rows are added in their order, each column by one thread, in f64: the bits depend
/// neither on the number of threads nor on the chunks that rows come in.
pub struct Recorder {
    /// The nodes' numbers, by their first panel.
    numbers: HashMap<usize, usize>,
    /// In the order of [`Model::linears`].
    nodes: Vec<Node>,
    sums: Buffer<f64>,
    /// Rows of the input at hand.
    rows: Vec<usize>,
}

struct Node {
    /// The node that sums for this one, as it takes the same rows.
    summed_by: usize,
    /// Where its sums start, and how many there are.
    start: usize,
    cols: usize,
    /// Rows added so far.
    rows: u64,
}

impl Recorder {
    /// # Errors
    /// Too little memory.
    pub fn new(model: &Model) -> Result<Self, BackendError> {
        let (mut numbers, mut nodes, mut end) = (HashMap::new(), Vec::new(), 0);
        for linear in model.linears() {
            let number = nodes.len();
            numbers.insert(model.panels(linear) as usize, number);
            nodes.push(Node { summed_by: number, start: end, cols: linear.cols, rows: 0 });
            end += linear.cols;
        }
        numbers.remove(&(model.panels(&model.head) as usize));
        Ok(Self { numbers, nodes, sums: zeroed("sums of inputs", end)?, rows: Vec::new() })
    }

    /// Adds these rows of an input, which all these nodes take and which is as wide.
    pub fn add<'l>(
        &mut self,
        team: &mut Team,
        model: &Model,
        linears: impl IntoIterator<Item = &'l PackedLinear>,
        input: Input,
        rows: impl IntoIterator<Item = usize>,
    ) {
        let number = |linear: &PackedLinear| self.numbers.get(&(model.panels(linear) as usize)).copied();
        let mut numbers = linears.into_iter().filter_map(number);
        let Some(first) = numbers.next() else { return };
        for number in numbers {
            self.nodes[number].summed_by = first;
        }
        self.rows.clear();
        self.rows.extend(rows);
        let (rows, sums) = (&self.rows, &self.sums);
        let node = &mut self.nodes[first];
        node.rows += rows.len() as u64;
        let (start, cols) = (node.start, node.cols);
        team.run(cols.div_ceil(COLUMNS), &|item| {
            let columns = item * COLUMNS..cols.min((item + 1) * COLUMNS);
            // SAFETY: the columns are this item's alone; nothing writes the input meanwhile, whose rows are as wide.
            let sums = unsafe { sums.slice_mut(start + columns.start, columns.len()) };
            for row in rows {
                let x = { input }.x.wrapping_add(row * input.stride + columns.start);
                // SAFETY: as above.
                let x = unsafe { std::slice::from_raw_parts(x, columns.len()) };
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
            }
        });
    }

    /// Gives the number of each node that was given rows, their count and the sums `[cols]`, and begins anew.
    pub fn take(&mut self, each: &mut dyn FnMut(usize, u64, &[f64])) {
        for (number, node) in self.nodes.iter().enumerate() {
            let by = &self.nodes[node.summed_by];
            if by.rows > 0 {
                // SAFETY: the range is the node's, and no job is under way.
                each(number, by.rows, unsafe { self.sums.slice(by.start, by.cols) });
            }
        }
        for node in self.nodes.iter_mut().filter(|node| node.rows > 0) {
            node.rows = 0;
            // SAFETY: as above; `&mut self` is the only user.
            unsafe { self.sums.slice_mut(node.start, node.cols) }.fill(0.0);
        }
    }
}
