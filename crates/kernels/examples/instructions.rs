//! One product of each type and number of tokens, for counting instructions: `scripts/instructions.py` runs it in callgrind.
//!
//! `EDGELING_CPU=scalar instructions` prints a line `TYPE TOKENS` for each call of `measured`, in order.

use kernels::DType;
use kernels::buffer::Buffer;
use kernels::ops::matmul::{Fetch, FloatMatMul, IntMatMul};
use kernels::ops::quantize::QuantizedRows;
use kernels::quant::panel::MatMulFn;
use kernels::simd::{LANES, Tier};

const COLS: usize = 512;
const PANELS: usize = 4;
/// One decoded token, a small batch, and a part of a prompt.
const TOKENS: [usize; 3] = [1, 4, 32];

/// What is counted, by its name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn measured(product: &mut &mut dyn FnMut()) {
    product();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tier = Tier::detect()?;
    for dtype in DType::all() {
        let layout = &dtype.run;
        let panel_bytes = (layout.panel_bytes)(COLS);
        let panels: Buffer<u8> = Buffer::zeroed(PANELS * panel_bytes).ok_or("too little memory")?;
        let file: Vec<u8> = (0..LANES * dtype.row_bytes(COLS)).map(|i| (i % 61) as u8).collect();
        for panel in 0..PANELS {
            // SAFETY: the panel lies within the buffer, and there is one thread.
            (layout.pack)(&file, COLS, unsafe { panels.slice_mut(panel * panel_bytes, panel_bytes) });
        }
        for count in TOKENS {
            let x: Buffer<f32> = Buffer::zeroed(count * COLS).ok_or("too little memory")?;
            // SAFETY: there is one thread.
            let values = unsafe { x.slice_mut(0, count * COLS) };
            values.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 17) as f32 - 8.0);
            let mut quantized = QuantizedRows::new(count, COLS).ok_or("too little memory")?;
            quantized.set_cols(COLS);
            for token in 0..count {
                // SAFETY: the tier is available and the rows exist.
                unsafe { tier.run(quantized.quantize_row(token, x.ptr().add(token * COLS))) }
            }
            let out: Buffer<f32> = Buffer::zeroed(count * PANELS * LANES).ok_or("too little memory")?;
            let (range, tokens, out_stride, cols) = (0..PANELS, 0..count, PANELS * LANES, COLS);
            let (panels, out, fetch) = (panels.ptr().cast_const(), out.ptr(), Fetch::Nothing);
            let mut product = || {
                let (range, tokens) = (range.clone(), tokens.clone());
                // SAFETY: the tier is available and all buffers are as large as the product.
                unsafe {
                    match layout.matmul {
                        MatMulFn::Int8(run) => {
                            let x = &quantized;
                            run(
                                tier,
                                IntMatMul { panels, panel_bytes, range, cols, x, tokens, out, out_stride, fetch },
                            );
                        }
                        MatMulFn::F32(run) => {
                            let (x, x_stride, accumulate) = (x.ptr().cast_const(), cols, false);
                            #[rustfmt::skip]
                            let part = FloatMatMul {
                                panels, panel_bytes, range, cols, x, x_stride, tokens, out, out_stride, accumulate, fetch,
                            };
                            run(tier, part);
                        }
                    }
                }
            };
            measured(&mut (&mut product as &mut dyn FnMut()));
            println!("{} {count}", dtype.name);
        }
    }
    Ok(())
}
