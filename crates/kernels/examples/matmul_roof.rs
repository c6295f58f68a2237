//! Each type's matmul beside the machine's roofs: prefill as a share of the int8 or f32 peak, decode as a share of the read
//! bandwidth, on one thread.
//!
//! `cargo run --release -p edgeling-kernels --example matmul_roof [ROWS COLS]`

use std::time::Instant;

use kernels::DType;
use kernels::buffer::Buffer;
use kernels::ops::matmul::{Fetch, FloatMatMul, IntMatMul};
use kernels::ops::quantize::QuantizedRows;
use kernels::quant::panel::{IN_BF16, MatMulFn};
use kernels::roof;
use kernels::simd::Tier;

const TOKENS: usize = 256;
/// Values between two rows of the output, so that a column of it spreads over the sets of a cache.
const PAD: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let [rows, cols] = sizes.try_into().unwrap_or([3072, 1024]);
    let tier = Tier::detect()?;
    let roofs = roof::measure(tier, &[1])?[0];
    println!("{} {roofs:?}", tier.name());
    let plain = DType::all().map(|dtype| (dtype.name.to_owned(), dtype, dtype.run.matmul));
    let in_bf16 = DType::from_name("BF16").filter(|_| tier.has_bf16()).map(|t| ("in BF16".to_owned(), t, IN_BF16));
    for (name, dtype, matmul) in plain.chain(in_bf16) {
        let layout = &dtype.run;
        let panel_bytes = (layout.panel_bytes)(cols);
        // Enough copies of the weight that decoding reads memory, not a cache.
        let panels = rows.div_ceil(16);
        let copies = (256 << 20) / (panels * panel_bytes) + 1;
        let weights: Buffer<u8> = Buffer::zeroed(copies * panels * panel_bytes).ok_or("memory")?;
        let file = vec![0x3Cu8; 16 * dtype.row_bytes(cols)];
        for panel in 0..copies * panels {
            // SAFETY: one thread.
            (layout.pack)(&file, cols, unsafe { weights.slice_mut(panel * panel_bytes, panel_bytes) });
        }
        let begin = Instant::now();
        for panel in 0..panels {
            // SAFETY: one thread.
            (layout.pack)(&file, cols, unsafe { weights.slice_mut(panel * panel_bytes, panel_bytes) });
        }
        let pack = (panels * file.len()) as f64 / begin.elapsed().as_secs_f64() / 1e9;
        let x: Buffer<f32> = Buffer::zeroed(TOKENS * cols).ok_or("memory")?;
        // SAFETY: one thread.
        for (i, v) in unsafe { x.slice_mut(0, TOKENS * cols) }.iter_mut().enumerate() {
            *v = (i % 17) as f32 - 8.0;
        }
        let mut quantized = QuantizedRows::new(TOKENS, cols).ok_or("memory")?;
        quantized.set_cols(cols);
        let begin = Instant::now();
        for t in 0..TOKENS {
            // SAFETY: the tier is available and the rows exist.
            unsafe { tier.run(quantized.quantize_row(t, x.ptr().add(t * cols))) }
        }
        let quantize = begin.elapsed().as_secs_f64();
        let out: Buffer<f32> = Buffer::zeroed(TOKENS * (panels * 16 + PAD)).ok_or("memory")?;
        let product = |first: usize, tokens: usize| {
            let (panels_at, out, out_stride) =
                (weights.ptr().wrapping_add(first * panel_bytes), out.ptr(), panels * 16 + PAD);
            let (range, tokens) = (0..panels, 0..tokens);
            // SAFETY: the tier is available and all buffers are as large as the product.
            unsafe {
                match matmul {
                    MatMulFn::Int8(run) => {
                        let x = &quantized;
                        run(
                            tier,
                            IntMatMul {
                                panels: panels_at,
                                panel_bytes,
                                range,
                                cols,
                                x,
                                tokens,
                                out,
                                out_stride,
                                fetch: Fetch::Ahead(8192),
                            },
                        );
                    }
                    MatMulFn::F32(run) => {
                        let (x, x_stride, accumulate) = (x.ptr().cast_const(), cols, false);
                        let panels = panels_at;
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
                                fetch: Fetch::Nothing,
                            },
                        );
                    }
                }
            }
        };
        let best = |work: &dyn Fn()| {
            (0..10)
                .map(|_| {
                    let begin = Instant::now();
                    work();
                    begin.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min)
        };
        let prefill = best(&|| product(0, TOKENS));
        let decode = best(&|| (0..copies).for_each(|c| product(c * panels, 1)));
        let peak = match name.as_str() {
            "in BF16" => roofs.bf16.ok_or("no BF16")?,
            _ if dtype.is_float() => roofs.f32,
            _ => roofs.int8,
        };
        let ops = 2.0 * (rows * cols * TOKENS) as f64 / prefill;
        let read = (copies * rows * dtype.row_bytes(cols)) as f64 / decode;
        print!("{name:8} prefill {:6.1} Gop/s {:.3} of peak; ", ops / 1e9, ops / peak);
        for tokens in [4, 8, 16, 32] {
            let share = |seconds: f64| 2.0 * (rows * cols * tokens) as f64 / seconds / peak;
            let cold = best(&|| (0..copies).for_each(|c| product(c * panels, tokens))) / copies as f64;
            print!("{tokens} rows {:.3}, {:.3} from memory; ", share(best(&|| product(0, tokens))), share(cold));
        }
        println!(
            "decode {:.1} GB/s {:.3} of read; pack {pack:.2} GB/s; quantize {:.3} of prefill",
            read / 1e9,
            read / roofs.read,
            quantize / prefill,
        );
    }
    Ok(())
}
