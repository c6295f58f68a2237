//! What linear nodes are given: sums of squares of each column, and of products of columns, for whoever asks.

use std::collections::HashMap;

use super::matmuls::Input;
use super::weights::{Model, PackedLinear, zeroed};
use crate::backend::{BackendError, NodeInputs};
use crate::buffer::Buffer;
use crate::ops::products::Products;
use crate::simd::{LANES, Tier};
use crate::team::Team;

/// Columns that a thread sums at a time.
const COLUMNS: usize = 128;

/// Sums of all nodes but the head. Rows are added in their order, each column by one thread, squares in f64 and products in
/// f32: the bits depend neither on the number of threads nor on the chunks that rows come in.
pub struct Recorder {
    tier: Tier,
    /// The nodes' numbers, by their first panel.
    numbers: HashMap<usize, usize>,
    /// In the order of [`Model::linears`].
    nodes: Vec<Node>,
    sums: Buffer<f64>,
    products: Buffer<f32>,
    /// Rows of the input at hand.
    rows: Vec<usize>,
}

struct Node {
    /// The node that sums for this one, as it takes the same rows.
    summed_by: usize,
    /// Where its sums start, and how many there are.
    start: usize,
    cols: usize,
    /// Columns of a group whose products are summed; 0 for none.
    span: usize,
    /// Where the sums of products start: `[cols, span]`.
    products: usize,
    /// Rows added so far.
    rows: u64,
}

impl Node {
    fn products_len(&self) -> usize {
        self.cols * self.span
    }
}

impl Recorder {
    /// `spans` as [`Program::record_inputs`](crate::backend::Program::record_inputs) has them.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(tier: Tier, model: &Model, spans: &[usize]) -> Result<Self, BackendError> {
        let (mut numbers, mut nodes, mut end, mut products) = (HashMap::new(), Vec::new(), 0, 0);
        for linear in model.linears() {
            let number = nodes.len();
            numbers.insert(model.panels(linear) as usize, number);
            // Whole lanes alone.
            let whole = |span: &usize| span.is_multiple_of(LANES) && linear.cols.is_multiple_of(LANES);
            let span = spans.get(number).copied().filter(whole).unwrap_or(0);
            nodes.push(Node { summed_by: number, start: end, cols: linear.cols, span, products, rows: 0 });
            end += linear.cols;
            products += linear.cols * span;
        }
        numbers.remove(&(model.panels(&model.head) as usize));
        let (sums, products) = (zeroed("sums of inputs", end)?, zeroed("sums of products of inputs", products)?);
        Ok(Self { tier, numbers, nodes, sums, products, rows: Vec::new() })
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
        let Node { start, cols, span, products: at, .. } = *node;
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
        if span == 0 {
            return;
        }
        let (tier, products) = (self.tier, &self.products);
        team.run(cols / LANES, &|item| {
            let first = item * LANES;
            let start = first / span * span;
            let sums = products.ptr().wrapping_add(at + first * span + first - start);
            let Input { x, stride } = { input };
            let kernel = Products { x, stride, rows, first, end: cols.min(start + span), sums, pitch: span };
            // SAFETY: the program's tier is available; the sums of these columns are this item's alone, and the rest as
            // above.
            unsafe { tier.run(kernel) };
        });
    }

    /// Gives the number of each node that was given rows with what they come to, and begins anew.
    pub fn take(&mut self, each: &mut dyn FnMut(usize, &NodeInputs)) {
        for (number, node) in self.nodes.iter().enumerate() {
            let by = &self.nodes[node.summed_by];
            if by.rows > 0 {
                // SAFETY: the ranges are the node's, and no job is under way.
                let (squares, products) = unsafe {
                    (self.sums.slice(by.start, by.cols), self.products.slice(by.products, by.products_len()))
                };
                each(number, &NodeInputs { rows: by.rows, same_as: node.summed_by, squares, products });
            }
        }
        for node in self.nodes.iter_mut().filter(|node| node.rows > 0) {
            node.rows = 0;
            // SAFETY: as above; `&mut self` is the only user.
            unsafe {
                self.sums.slice_mut(node.start, node.cols).fill(0.0);
                self.products.slice_mut(node.products, node.products_len()).fill(0.0);
            }
        }
    }
}
