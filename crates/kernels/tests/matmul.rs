//! The matmul of every type: bits against the scalar tier, values against dequantized weights.

mod support;

use kernels::DType;
use kernels::buffer::Buffer;
use kernels::ops::matmul::{Fetch, FloatMatMul, IntMatMul};
use kernels::ops::quantize::QuantizedRows;
use kernels::quant::panel::MatMulFn;
use kernels::simd::Tier;
use support::{Random, random_rows, spoil_scales};

/// `[tokens, rows]` of `x` times the rows of `weight`, by the kernels of `tier`, `at_once` tokens a call.
fn product(tier: Tier, dtype: DType, weight: &[u8], shape: [usize; 3], x: &[f32], at_once: usize) -> Vec<f32> {
    let [rows, cols, tokens] = shape;
    let panels = rows.div_ceil(16);
    let panel_bytes = (dtype.run.panel_bytes)(cols);
    let packed: Buffer<u8> = Buffer::zeroed(panels * panel_bytes).unwrap();
    for panel in 0..panels {
        let row = dtype.row_bytes(cols);
        let from = &weight[panel * 16 * row..rows.min(panel * 16 + 16) * row];
        // SAFETY: one thread.
        (dtype.run.pack)(from, cols, unsafe { packed.slice_mut(panel * panel_bytes, panel_bytes) });
    }
    let mut quantized = QuantizedRows::new(tokens, cols.next_multiple_of(32)).unwrap();
    let out: Buffer<f32> = Buffer::zeroed(tokens * panels * 16).unwrap();
    let out_stride = panels * 16;
    for start in (0..tokens).step_by(at_once) {
        let (range, tokens) = (0..panels, start..tokens.min(start + at_once));
        let (panels, out, fetch) = (packed.ptr().cast_const(), out.ptr(), Fetch::Ahead(256));
        // SAFETY: the tier is available, and all buffers are as large as the product.
        unsafe {
            match dtype.run.matmul {
                MatMulFn::Int8(run) => {
                    quantized.set_cols(cols);
                    for t in tokens.clone() {
                        tier.run(quantized.quantize_row(t, x.as_ptr().add(t * cols)));
                    }
                    let x = &quantized;
                    run(tier, IntMatMul { panels, panel_bytes, range, cols, x, tokens, out, out_stride, fetch });
                }
                MatMulFn::F32(run) => {
                    let (x, x_stride, accumulate) = (x.as_ptr(), cols, false);
                    run(
                        tier,
                        FloatMatMul {
                            panels,
                            panel_bytes,
                            range,
                            cols,
                            x,
                            x_stride,
                            tokens,
                            out,
                            out_stride,
                            accumulate,
                            fetch,
                        },
                    );
                }
            }
        }
    }
    let padded = out.as_slice();
    (0..tokens).flat_map(|t| padded[t * out_stride..t * out_stride + rows].to_vec()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

#[test]
fn tiers_and_batches_give_the_same_bits() {
    let mut random = Random(7);
    // Odd numbers of panels and tokens, a panel with few rows, and sizes that leave every tile's remainder.
    for [rows, cols, tokens] in [[16, 256, 1], [40, 512, 7], [97, 256, 9], [64, 768, 12], [3, 256, 3]] {
        for dtype in DType::all() {
            let mut weight = random_rows(dtype, rows, cols, &mut random);
            let mut x: Vec<f32> = (0..tokens * cols).map(|_| random.normal()).collect();
            for extreme in [false, true] {
                if extreme {
                    spoil_scales(dtype, &mut weight, &mut random);
                    x[..32].fill(0.0);
                    x[32..64].fill(1e-39);
                    x[64] = 3e38;
                }
                let expected = bits(&product(Tier::Scalar, dtype, &weight, [rows, cols, tokens], &x, 1));
                for tier in Tier::all_available() {
                    for at_once in [1, 2, 3, 5, tokens] {
                        let found = bits(&product(tier, dtype, &weight, [rows, cols, tokens], &x, at_once));
                        assert_eq!(found, expected, "{dtype} on {}, {at_once} at once", tier.name());
                    }
                }
            }
        }
    }
}

/// The root mean square of the difference over that of the expected values.
fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    let square = |sum: f64, v: f64| sum + v * v;
    let difference = found.iter().zip(expected).map(|(f, e)| f64::from(*f) - e).fold(0.0, square);
    (difference / expected.iter().copied().fold(0.0, square)).sqrt()
}

#[test]
fn values_are_those_of_the_dequantized_weights() {
    let mut random = Random(11);
    let [rows, cols, tokens] = [128, 2048, 4];
    for dtype in DType::all() {
        let weight = random_rows(dtype, rows, cols, &mut random);
        let x: Vec<f32> = (0..tokens * cols).map(|_| random.normal()).collect();
        let mut decoded = vec![0.0; rows * cols];
        (dtype.decode)(&weight, &mut decoded);
        let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
        let expected: Vec<f64> = x.chunks(cols).flat_map(|x| decoded.chunks(cols).map(move |w| dot(x, w))).collect();
        // int8 activations round to 1/254 of a block's largest magnitude, about 0.6 % of a normal value's size.
        let bound = if dtype.is_float() { 1e-6 } else { 0.008 };
        for tier in Tier::all_available() {
            let found = product(tier, dtype, &weight, [rows, cols, tokens], &x, tokens);
            let error = relative_error(&found, &expected);
            println!("{dtype:5} {:7} relative error {error:.2e}", tier.name());
            assert!(error < bound, "{dtype} on {}: {error} is not below {bound}", tier.name());
        }
    }
}
