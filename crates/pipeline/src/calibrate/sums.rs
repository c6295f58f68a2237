//! Sums of squares, tensor by tensor.

use std::collections::HashMap;

use formats::imatrix::{NewEntry, NewProducts};
use kernels::backend::Program;
use kernels::quant::search::Moments;
use model::NodeTensor;

use super::CalibrateError;

/// The sums of one tensor.
#[derive(Debug)]
pub struct TensorSums {
    pub name: String,
    pub cols: usize,
    /// `[experts, cols]`
    pub squares: Vec<f64>,
    /// Inputs of each expert.
    pub counts: Vec<u64>,
    /// Sums of products of columns, `[cols, span]`; none where they were not asked for, or stand with another tensor.
    pub products: Vec<f32>,
    /// The tensor that is given the same, and has the products.
    pub same_as: Option<usize>,
}

/// The sums of all tensors in layers.
#[derive(Debug)]
pub struct Sums {
    tensors: Vec<TensorSums>,
    /// The tensor and the expert of each node; none of those that add nothing to a tensor.
    places: Vec<Option<(usize, usize)>>,
    /// The columns of a group whose products are summed, of each node.
    spans: Vec<usize>,
}

impl Sums {
    /// Products of columns are summed of matrices that are none of a stack, if at all.
    pub fn new(nodes: &[NodeTensor], products: bool) -> Self {
        let (mut tensors, mut by_name) = (Vec::new(), HashMap::new());
        let mut seen: HashMap<(usize, usize), ()> = HashMap::new();
        let places = nodes.iter().map(|node| {
            if !node.tensor.starts_with("blk.") {
                return None;
            }
            let tensor = *by_name.entry(node.tensor.as_str()).or_insert_with(|| {
                let squares = vec![0.0; node.experts * node.cols];
                let counts = vec![0; node.experts];
                let (name, products, same_as) = (node.tensor.clone(), Vec::new(), None);
                tensors.push(TensorSums { name, cols: node.cols, squares, counts, products, same_as });
                tensors.len() - 1
            });
            // Nodes with parts of one matrix take the same inputs.
            let place = (tensor, node.expert);
            seen.insert(place, ()).is_none().then_some(place)
        });
        let places: Vec<Option<_>> = places.collect();
        let spanned = |(node, place): (&NodeTensor, &Option<_>)| match (products, node.experts, place) {
            (true, 1, Some(_)) => Moments::span(node.cols),
            _ => 0,
        };
        let spans = nodes.iter().zip(&places).map(spanned).collect();
        Self { tensors, places, spans }
    }

    /// As [`Program::record_inputs`] takes them.
    pub fn spans(&self) -> &[usize] {
        &self.spans
    }

    pub fn tensors(&self) -> &[TensorSums] {
        &self.tensors
    }

    pub fn tensors_mut(&mut self) -> &mut [TensorSums] {
        &mut self.tensors
    }

    /// Adds what the program's nodes were given since the last time.
    ///
    /// # Errors
    /// That are not all numbers.
    pub fn add(&mut self, program: &mut dyn Program) -> Result<(), CalibrateError> {
        let mut wrong = None;
        program.take_inputs(&mut |node, inputs| {
            let place = |node| self.places.get(node).copied().flatten();
            let Some((tensor, expert)) = place(node) else { return };
            let summed_by = place(inputs.same_as).map(|(tensor, _)| tensor).filter(|_| !inputs.products.is_empty());
            let TensorSums { name, cols, squares: sums, counts, products, same_as } = &mut self.tensors[tensor];
            let own = &mut sums[expert * *cols..][..*cols];
            own.iter_mut().zip(inputs.squares).for_each(|(sum, square)| *sum += square);
            counts[expert] += inputs.rows;
            *same_as = summed_by.filter(|by| *by != tensor);
            if summed_by == Some(tensor) {
                products.resize(inputs.products.len(), 0.0);
                products.iter_mut().zip(inputs.products).for_each(|(sum, more)| *sum += more);
            }
            if own.iter().any(|sum| !(*sum as f32).is_finite()) {
                wrong.get_or_insert_with(|| name.clone());
            }
        });
        wrong.map_or(Ok(()), |tensor| Err(CalibrateError::NotANumber { tensor }))
    }

    /// Products as they stand in a file, if there are any.
    pub fn products(&self) -> Vec<NewProducts<'_>> {
        let with = self.tensors.iter().enumerate().filter(|(_, tensor)| !tensor.products.is_empty());
        with.map(|(number, tensor)| {
            let same = self.tensors.iter().filter(|other| other.same_as == Some(number));
            let tensors = [tensor].into_iter().chain(same).map(|tensor| tensor.name.as_str()).collect();
            NewProducts { tensors, cols: tensor.cols, sums: &tensor.products }
        })
        .collect()
    }

    /// As they stand in a file.
    pub fn entries(&self) -> Vec<NewEntry> {
        let entry = |tensor: &TensorSums| NewEntry {
            tensor: tensor.name.clone(),
            sums: tensor.squares.iter().map(|sum| *sum as f32).collect(),
            counts: tensor.counts.iter().map(|count| *count as f32).collect(),
        };
        self.tensors.iter().map(entry).collect()
    }
}
