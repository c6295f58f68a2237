//! What a model costs to compute, and so the rates that a machine allows.

use kernels::plan::{DecoderPlan, Layer, Linear};
use kernels::roof::Roof;

/// What a plan costs to compute, the reading and multiplying of its weights; attention and all else is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes of file weights that a step reads, however many positions it computes: of experts, at least these.
    pub bytes: f64,
    /// Of the layers, per position.
    pub layers: Operations,
    /// Of the output matrix, per position with logits.
    pub head: Operations,
}

/// Arithmetic operations; a multiply-add is two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operations {
    /// With quantized weights.
    pub int8: f64,
    /// With floating-point weights.
    pub f32: f64,
    /// With BF16 weights in BF16 arithmetic.
    pub bf16: f64,
}

impl Operations {
    /// Of a node that so large a share of positions meets.
    fn add(&mut self, (linear, share): (&Linear, f64), bf16: bool) {
        let operations = 2.0 * share * linear.shard.len() as f64 * linear.weight.cols as f64;
        let total = match linear.weight.dtype {
            dtype if bf16 && dtype.name == "BF16" => &mut self.bf16,
            dtype if dtype.is_float() => &mut self.f32,
            _ => &mut self.int8,
        };
        *total += operations;
    }

    fn seconds(&self, roof: &Roof) -> f64 {
        self.int8 / roof.int8 + self.f32 / roof.f32 + self.bf16 / roof.bf16.unwrap_or(roof.f32)
    }
}

impl Cost {
    /// What `plan` costs, with BF16 weights in BF16 arithmetic if `bf16`.
    pub fn of(plan: &DecoderPlan, bf16: bool) -> Self {
        let (mut layers, mut head) = (Operations::default(), Operations::default());
        plan.layers.iter().flat_map(Layer::shares).for_each(|linear| layers.add(linear, bf16));
        head.add((&plan.head, 1.0), bf16);
        Self { bytes: plan.bytes_per_token() as f64, layers, head }
    }

    /// The least seconds of a step: reading happens beside computing, so the longer of the two.
    fn step(&self, positions: usize, with_logits: usize, roof: &Roof) -> f64 {
        let compute = self.layers.seconds(roof) * positions as f64 + self.head.seconds(roof) * with_logits as f64;
        compute.max(self.bytes / roof.read)
    }

    /// The highest rate of prompts of `length` tokens.
    pub fn prefill_roof(&self, length: usize, batch: usize, roof: &Roof) -> f64 {
        (length * batch) as f64 / self.step(length * batch, batch, roof)
    }

    /// The highest rate of `batch` sequences that generate side by side.
    pub fn decode_roof(&self, batch: usize, roof: &Roof) -> f64 {
        batch as f64 / self.step(batch, batch, roof)
    }
}

#[cfg(test)]
mod tests {
    use kernels::DType;
    use kernels::plan::{Bytes, Weight};

    use super::*;

    const COST: Cost = Cost {
        bytes: 1e6,
        layers: Operations { int8: 2e6, f32: 0.0, bf16: 0.0 },
        head: Operations { int8: 0.0, f32: 4e5, bf16: 0.0 },
    };
    const ROOF: Roof = Roof { threads: 2, read: 1e9, int8: 1e12, f32: 1e11, bf16: None };

    #[test]
    fn roofs_are_those_of_the_scarcer_resource() {
        // One token reads 1 MB at 1 GB/s, which takes far longer than its arithmetic.
        assert_eq!(COST.decode_roof(1, &ROOF), 1e3);
        assert_eq!(COST.decode_roof(2, &ROOF), 2e3);
        // 10,000 positions take 20 ms of int8 and, for one row of logits, 4 µs of f32.
        assert_eq!(COST.prefill_roof(10_000, 1, &ROOF), 1e4 / (0.02 + 4e-6));
    }

    #[test]
    fn operations_count_by_the_type_of_the_weights() {
        let linear = |dtype: DType, rows: usize, cols: usize| {
            let bytes = vec![0u8; rows * dtype.row_bytes(cols)];
            let data = Bytes::new(std::sync::Arc::new(bytes.clone()), 0..bytes.len()).unwrap();
            Linear::new(Weight { name: String::new(), dtype, rows, cols, data }, None)
        };
        let mut operations = Operations::default();
        operations.add((&linear(DType::F16, 3, 5), 1.0), true);
        operations.add((&linear(DType::from_name("q8_0").unwrap(), 3, 32), 0.5), true);
        operations.add((&linear(DType::from_name("bf16").unwrap(), 2, 4), 1.0), true);
        assert_eq!(operations, Operations { int8: 96.0, f32: 30.0, bf16: 16.0 });
    }
}
