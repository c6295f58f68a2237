//! The part of a layer between its projections: keys and values to their pages, and attention.

use std::ops::Range;
use std::sync::PoisonError;

use super::{Pass, Row, each_row};
use crate::backend::KvType;
use crate::buffer::Buffer;
use crate::cpu::weights::HeadDims;
use crate::ops::attention::{Queries, Scratch};
use crate::ops::cache::{PAGE, Q8};
use crate::ops::heads::{HeadShape, StoreKeyValue};
use crate::plan::RopeStyle;
use crate::quant::panel::BLOCK;
use crate::quant::{F16, F32};

/// Queries of an attention item, over all heads of a group.
const QUERIES_AT_ONCE: usize = 32;

impl Pass<'_> {
    /// Attention of all rows: an item per span, KV head and tile of queries. Quantizes the result if `int8`, unless heads
    /// do not fill their lanes.
    pub(super) fn attend(&mut self, layer: usize, int8: bool) {
        let (tier, model, b, scratch, quantized) =
            (self.tier, self.model, self.buffers, self.scratch, &self.quantized[0]);
        let (rows, tables, pages) = (self.rows, self.tables, self.pages);
        let attention = &model.layers[layer].attention;
        let dims = attention.dims;
        let (padded, group) = (dims.padded_head(), dims.heads / dims.kv_heads);
        // Without RoPE no pair rotates, and no angle is read.
        let rope = attention.rope.map(|rope| &model.ropes[rope]);
        let (style, pairs) = rope.map_or((RopeStyle::Half, 0), |rope| (rope.style, rope.inv_freq.len()));
        let shape = HeadShape { head_dim: dims.head_dim, padded, norm_eps: model.norm_eps, style, pairs };
        let norm = |weight: &Option<Buffer<f32>>| weight.as_ref().map(|w| w.as_slice().as_ptr());
        let projected =
            |r: usize, i: usize| b.qkv.ptr().wrapping_add(r * b.qkv_starts[3] + b.qkv_starts[i]).cast_const();
        let (angles_stride, first_angle) =
            (b.angle_starts[model.ropes.len()], b.angle_starts[attention.rope.unwrap_or(0)]);
        let angles = |r: usize| b.angles.ptr().wrapping_add(r * angles_stride + first_angle).cast_const();
        // The key and value of row r's head `kv_head` to its page.
        let store = |r: usize, kv_head: usize, scratch: *mut f32| {
            let row = rows[r];
            let store = StoreKeyValue {
                shape,
                k: projected(r, 1).wrapping_add(kv_head * dims.head_dim),
                v: projected(r, 2).wrapping_add(kv_head * dims.head_dim),
                k_norm: norm(&attention.head_norms[1]),
                angles: angles(r),
                scratch,
                layout: pages.head(layer, kv_head),
                page: tables[row.span][row.position / PAGE].0,
                slot: row.position % PAGE,
            };
            // SAFETY: the tier is available; each head of a row has its own slot and is stored once, with a scratch that
            // no other call uses meanwhile.
            unsafe { tier.run(store) }
        };
        let whole_blocks = dims.head_dim == padded && (group * padded).is_multiple_of(BLOCK);
        let tiles = tiles(rows, (QUERIES_AT_ONCE / group).max(1));
        // A tile that is all of its span needs no keys and values of others: its items store their own.
        let alone = tiles.windows(2).all(|two| rows[two[0].start].span != rows[two[1].start].span);
        if !alone {
            each_row(self.team, rows.len(), &|r| {
                let own = b.key_value.ptr().wrapping_add(r * 2 * b.head);
                (0..dims.kv_heads).for_each(|kv_head| store(r, kv_head, own));
            });
        }
        self.team.run(tiles.len() * dims.kv_heads, &|item| {
            let (tile, kv_head) = (tiles[item / dims.kv_heads].clone(), item % dims.kv_heads);
            let free = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let own = free().pop();
            let mut own = own.unwrap_or_else(|| Scratch::new(QUERIES_AT_ONCE.max(b.group), b.head));
            if alone {
                tile.clone().for_each(|r| store(r, kv_head, own.key_value.as_mut_ptr()));
            }
            let row = rows[tile.start];
            let first = kv_head * group * padded;
            let query = Queries {
                pages: &tables[row.span],
                layout: pages.head(layer, kv_head),
                position: row.position,
                queries: tile.len(),
                group,
                shape,
                q_norm: norm(&attention.head_norms[0]),
                scale: attention.scale,
                softcap: attention.softcap,
                window: attention.window,
                q: projected(tile.start, 0).wrapping_add(kv_head * group * dims.head_dim),
                q_stride: b.qkv_starts[3],
                angles: angles(tile.start),
                angles_stride,
                out: b.attended.ptr().wrapping_add(tile.start * b.heads + first),
                out_stride: b.heads,
                scratch: &mut own,
            };
            // SAFETY: the tier is available; the span's keys up to the last query are stored as the pages' type, and each
            // item has its own part of the output.
            unsafe {
                match pages.kv {
                    KvType::F32 => tier.run(query.over::<F32>()),
                    KvType::F16 => tier.run(query.over::<F16>()),
                    KvType::Q8_0 => tier.run(query.over::<Q8>()),
                }
            }
            free().push(own);
            if int8 && whole_blocks {
                for r in tile {
                    let x = b.attended.ptr().wrapping_add(r * b.heads + first);
                    let blocks = first / BLOCK..(first + group * padded) / BLOCK;
                    // SAFETY: the tier is available, and the item's part of the row is its own.
                    unsafe { tier.run(quantized.quantize(r, blocks, x)) }
                }
            }
        });
        if int8 && !whole_blocks && dims.head_dim == padded {
            let step = |r: usize| {
                let x = b.attended.ptr().wrapping_add(r * b.heads);
                // SAFETY: the tier is available, and each row is touched by this call alone.
                unsafe { tier.run(quantized.quantize_row(r, x)) }
            };
            each_row(self.team, rows.len(), &step);
        }
    }

    /// Copies attended heads that do not fill their lanes to the input, one right behind the other, in rows that start
    /// `stride` values apart; quantizes the input if `int8`.
    pub(super) fn close_ranks(&mut self, dims: HeadDims, stride: usize, int8: bool) {
        let (tier, b, quantized) = (self.tier, self.buffers, &self.quantized[0]);
        let width = dims.heads * dims.head_dim;
        each_row(self.team, self.rows.len(), &|r| {
            // SAFETY: the tier is available; two buffers, offsets within row r, which this call alone touches.
            unsafe {
                for h in 0..dims.heads {
                    let head = b.attended.slice(r * b.heads + h * dims.padded_head(), dims.head_dim);
                    b.input.slice_mut(r * stride + h * dims.head_dim, dims.head_dim).copy_from_slice(head);
                }
                b.input.slice_mut(r * stride + width, stride - width).fill(0.0);
                if int8 {
                    tier.run(quantized.quantize(r, 0..width / BLOCK, b.input.ptr().add(r * stride)));
                }
            }
        });
    }
}

/// The rows in tiles of at most `size`, none across two spans.
fn tiles(rows: &[Row], size: usize) -> Vec<Range<usize>> {
    let mut tiles: Vec<Range<usize>> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        match tiles.last_mut() {
            Some(tile) if tile.len() < size && rows[tile.start].span == row.span => tile.end = i + 1,
            _ => tiles.push(i..i + 1),
        }
    }
    tiles
}
