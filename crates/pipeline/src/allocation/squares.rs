//! Squared errors of a tensor in a type.

use formats::Tensor;
use formats::imatrix::Imatrix;
use kernels::DType;
use kernels::simd::Tier;
use rayon::prelude::*;

use crate::quantize::{Effort, Encoding, Importance, QuantizeError};

/// Values of a tensor whose errors stand for all; whole rows, evenly spread.
const SAMPLED: usize = 1 << 14;
/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// A tensor with what its columns matter.
pub struct Weighed {
    pub tensor: Tensor,
    importance: Option<Importance>,
    cols: usize,
    tier: Tier,
}

impl Weighed {
    /// # Errors
    /// An importance that is none.
    pub fn new(tensor: Tensor, imatrix: Option<&Imatrix>, tier: Tier) -> Result<Self, QuantizeError> {
        let cols = tensor.shape.last().copied().unwrap_or(1);
        let importance = imatrix.map(|imatrix| Importance::of(imatrix, &tensor.name, &tensor.shape)).transpose()?;
        Ok(Self { importance: importance.flatten().filter(|i| i.fits(&tensor.shape)), tensor, cols, tier })
    }

    pub fn values(&self) -> usize {
        self.tensor.shape.iter().product()
    }

    /// The tensor's bytes in its own type, rounded to the values of `to` in between.
    pub fn rounded(&self, to: DType) -> Vec<u8> {
        let own = self.tensor.dtype;
        let encoding = Encoding::new(to, self.tier, self.cols, Effort::Reference, self.importance.clone());
        let mut out = self.tensor.data.to_vec();
        out.par_chunks_mut(ROWS * own.row_bytes(self.cols)).enumerate().for_each(|(i, rows)| {
            let mut values = vec![0.0; rows.len() / own.bytes * own.block];
            (own.decode)(rows, &mut values);
            let mut blocks = vec![0; values.len() / to.block * to.bytes];
            encoding.encode(&values, i * ROWS, &mut blocks);
            (to.decode)(&blocks, &mut values);
            if let Some(encode) = own.encode {
                encode(self.tier, &values, rows);
            }
        });
        out
    }

    /// The squared error of a type, of all values together, weighted by importance, and the weighted squares; by a sample.
    pub fn error(&self, to: DType, effort: Effort) -> (f64, f64) {
        let own = self.tensor.dtype;
        let rows = self.values() / self.cols;
        let sampled = rows.min((SAMPLED / self.cols).max(8));
        let encoding = Encoding::new(to, self.tier, self.cols, effort, self.importance.clone());
        let equal = Importance::equal(self.cols);
        let weights = self.importance.as_ref().map_or(equal, Importance::as_measure);
        let sums: Vec<(f64, f64)> = (0..sampled)
            .into_par_iter()
            .map(|i| {
                let row = i * rows / sampled;
                let bytes = own.row_bytes(self.cols);
                let mut values = vec![0.0; self.cols];
                (own.decode)(&self.tensor.data[row * bytes..(row + 1) * bytes], &mut values);
                let (mut blocks, mut decoded) = (vec![0; to.row_bytes(self.cols)], vec![0.0; self.cols]);
                encoding.encode(&values, row, &mut blocks);
                (to.decode)(&blocks, &mut decoded);
                let terms = values.iter().zip(decoded).zip(weights.columns(row));
                terms.fold((0.0, 0.0), |(error, all), ((x, v), w)| {
                    let (x, v, w) = (f64::from(*x), f64::from(v), f64::from(*w));
                    (error + w * (x - v) * (x - v), all + w * x * x)
                })
            })
            .collect();
        // In order, whatever the number of threads.
        let (error, all) = sums.into_iter().fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        let share = rows as f64 / sampled.max(1) as f64;
        (error * share, all * share)
    }
}
