//! Sums of squares, tensor by tensor.

use std::collections::HashMap;

use formats::imatrix::NewEntry;
use kernels::backend::Program;
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
}

/// The sums of all tensors in layers.
#[derive(Debug)]
pub struct Sums {
    tensors: Vec<TensorSums>,
    /// The tensor and the expert of each node; none of those that add nothing to a tensor.
    places: Vec<Option<(usize, usize)>>,
}

impl Sums {
    pub fn new(nodes: &[NodeTensor]) -> Self {
        let (mut tensors, mut by_name) = (Vec::new(), HashMap::new());
        let mut seen: HashMap<(usize, usize), ()> = HashMap::new();
        let places = nodes.iter().map(|node| {
            if !node.tensor.starts_with("blk.") {
                return None;
            }
            let tensor = *by_name.entry(node.tensor.as_str()).or_insert_with(|| {
                let squares = vec![0.0; node.experts * node.cols];
                let counts = vec![0; node.experts];
                tensors.push(TensorSums { name: node.tensor.clone(), cols: node.cols, squares, counts });
                tensors.len() - 1
            });
            // Nodes with parts of one matrix take the same inputs.
            let place = (tensor, node.expert);
            seen.insert(place, ()).is_none().then_some(place)
        });
        let places = places.collect();
        Self { tensors, places }
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
        program.take_inputs(&mut |node, rows, squares| {
            let Some((tensor, expert)) = self.places.get(node).copied().flatten() else { return };
            let TensorSums { name, cols, squares: sums, counts } = &mut self.tensors[tensor];
            let own = &mut sums[expert * *cols..][..*cols];
            own.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
            counts[expert] += rows;
            if own.iter().any(|sum| !(*sum as f32).is_finite()) {
                wrong.get_or_insert_with(|| name.clone());
            }
        });
        wrong.map_or(Ok(()), |tensor| Err(CalibrateError::NotANumber { tensor }))
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
