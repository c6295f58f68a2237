//! The part of a layer between its projections: keys and values to their pages, and attention.

use std::ops::Range;
use std::sync::PoisonError;

use super::tiles::{Part, parts, segments_of, tiles};
use super::{Pass, each_row, in_groups};
use crate::backend::{BackendError, KvType};
use crate::buffer::Buffer;
use crate::cpu::buffers::Buffers;
use crate::cpu::weights::{HeadDims, Model, PackedAttention, PackedMixer};
use crate::ops::attention::{Queries, Scratch, partial_len, segments};
use crate::ops::cache::PAGE;
use crate::ops::cache_q8::Q8;
use crate::ops::glu::SigmoidGate;
use crate::ops::heads::{HeadShape, StoreKeyValue};
use crate::plan::RopeStyle;
use crate::quant::panel::BLOCK;
use crate::quant::{F16, F32};
use crate::simd::LANES;

/// Queries of an attention item, over all heads of a group.
const QUERIES_AT_ONCE: usize = 64;
/// Items of attention per thread, beyond which they take several KV heads each.
const ITEMS_PER_THREAD: usize = 16;

/// What each of `threads` threads works in.
pub(super) fn scratches(model: &Model, b: &Buffers, threads: usize) -> Result<Vec<Scratch>, BackendError> {
    let rows = QUERIES_AT_ONCE.max(b.group);
    let scratch = || Scratch::new(rows, b.head);
    let no_memory = BackendError::Memory { what: "attention", bytes: rows * b.head * size_of::<f32>() };
    let any = model.layers.iter().any(|layer| matches!(layer.mixer, PackedMixer::Attention(_)));
    (0..if any { threads } else { 0 }).map(|_| scratch()).collect::<Option<_>>().ok_or(no_memory)
}

impl Pass<'_> {
    /// Attention of all rows: an item per span, KV head and tile of queries. Quantizes the result if `int8`, unless heads
    /// do not fill their lanes.
    pub(super) fn attend(&mut self, layer: usize, attention: &PackedAttention, int8: bool) {
        let (tier, model, b, scratch, quantized) =
            (self.tier, self.model, self.buffers, self.scratch, &self.quantized[0]);
        let (rows, tables, pages) = (self.rows, self.tables, self.pages);
        let dims = attention.dims;
        // A head's gate follows its query.
        let q_head = if attention.gated { 2 * dims.head_dim } else { dims.head_dim };
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
        // Keys may be the values too.
        let values = attention.qkv.len() - 1;
        // The key and value of row r's head `kv_head` to its page.
        let store = |r: usize, kv_head: usize, scratch: *mut f32| {
            let row = rows[r];
            let store = StoreKeyValue {
                shape,
                k: projected(r, 1).wrapping_add(kv_head * dims.head_dim),
                v: projected(r, values).wrapping_add(kv_head * dims.head_dim),
                k_norm: norm(&attention.head_norms[1]),
                v_norm: norm(&attention.head_norms[2]),
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
        let parts = parts(rows, &tiles, dims.kv_heads, self.team.size());
        // A tile that is all of its span needs no keys and values of others: its items store their own, for which one part
        // must have them all.
        let alone = tiles.windows(2).all(|two| rows[two[0].start].span != rows[two[1].start].span);
        let whole = |tile: &Range<usize>| segments(rows[tile.start].position + 1) == segments_of(rows, tile);
        let alone = alone && (parts.is_none() || tiles.iter().all(whole));
        // Another layer has stored what this one reads.
        let stores = attention.reads.is_none();
        let alone = alone && stores;
        if stores && !alone {
            // Keys stand in groups of sixteen, which share cache lines.
            in_groups(self.team, rows.len(), LANES, &|r| {
                let own = b.key_value.ptr().wrapping_add(r * 2 * b.head);
                (0..dims.kv_heads).for_each(|kv_head| store(r, kv_head, own));
            });
        }
        let free = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let with_scratch = |work: &dyn Fn(&mut Scratch)| {
            let own = free().pop();
            let mut own = own.expect("a scratch for each thread");
            work(&mut own);
            free().push(own);
        };
        let query = |tile: &Range<usize>, kv_head: usize, next: Option<usize>| {
            let row = rows[tile.start];
            Queries {
                pages: &tables[row.span],
                layout: pages.head(layer, kv_head),
                next: next.map(|kv_head| pages.head(layer, kv_head)),
                position: row.position,
                queries: tile.len(),
                group,
                shape,
                q_norm: norm(&attention.head_norms[0]),
                scale: attention.scale,
                growth: attention.query_growth,
                softcap: attention.softcap,
                window: attention.window,
                q: projected(tile.start, 0).wrapping_add(kv_head * group * q_head),
                q_head,
                q_stride: b.qkv_starts[3],
                angles: angles(tile.start),
                angles_stride,
                out: b.attended.ptr().wrapping_add(tile.start * b.heads + kv_head * group * padded),
                out_stride: b.heads,
            }
        };
        let finish = |tile: Range<usize>, kv_head: usize| {
            let first = kv_head * group * padded;
            for r in tile {
                let x = b.attended.ptr().wrapping_add(r * b.heads + first);
                let gates = if attention.gated { group } else { 0 };
                for head in 0..gates {
                    let gate = projected(r, 0).wrapping_add((kv_head * group + head) * q_head + dims.head_dim);
                    // SAFETY: the tier is available, and the item's part of the row is its own; behind a gate that fills no
                    // whole lanes stand other projections.
                    unsafe { tier.run(SigmoidGate { x: x.wrapping_add(head * padded), gate, cols: padded }) }
                }
                if int8 && whole_blocks {
                    let blocks = first / BLOCK..(first + group * padded) / BLOCK;
                    // SAFETY: as above.
                    unsafe { tier.run(quantized.quantize(r, blocks, x)) }
                }
            }
        };
        let items = tiles.len() * dims.kv_heads;
        let of_item = |item: usize| (tiles[item / dims.kv_heads].clone(), item % dims.kv_heads);
        if let Some(parts) = parts {
            // Few long items: their segments go to several threads, and are merged when all are there.
            let of_tile = |tile: &Range<usize>| segments_of(rows, tile) * tile.len() * group;
            let partial = partial_len(padded);
            let widest = tiles.iter().map(of_tile).max().unwrap_or(0) * partial;
            self.partials.resize(self.partials.len().max(items * widest), 0.0);
            let partials = Partials(self.partials.as_mut_ptr());
            let partials = |item: usize| partials.of(item * widest);
            self.team.run(parts.len(), &|i| {
                let Part { item, numbers } = parts[i].clone();
                let (tile, kv_head) = of_item(item);
                let last = numbers.end == segments_of(rows, &tile);
                with_scratch(&|own| {
                    if alone && last {
                        tile.clone().for_each(|r| store(r, kv_head, own.key_value.as_mut_ptr()));
                    }
                    let (query, numbers, to) = (query(&tile, kv_head, None), numbers.clone(), partials(item));
                    // SAFETY: the tier is available; the keys of these segments are stored as the pages' type, and each
                    // part has its own partials.
                    unsafe {
                        match pages.kv {
                            KvType::F32 => tier.run(query.over_segments::<F32>(numbers, to, own)),
                            KvType::F16 => tier.run(query.over_segments::<F16>(numbers, to, own)),
                            KvType::Q8_0 => tier.run(query.over_segments::<Q8>(numbers, to, own)),
                        }
                    }
                });
            });
            self.team.run(items, &|item| {
                let (tile, kv_head) = of_item(item);
                with_scratch(&|own| {
                    // SAFETY: the tier is available; the partials are there, and each item has its own part of the output.
                    unsafe { tier.run(query(&tile, kv_head, None).merged(partials(item), own)) }
                });
                finish(tile, kv_head);
            });
        } else {
            // Many items are taken several at once, so that the keys of one are fetched during the one before it.
            let at_once = (items / (self.team.size() * ITEMS_PER_THREAD)).clamp(1, dims.kv_heads);
            self.team.run(items.div_ceil(at_once), &|first| {
                let some = first * at_once..items.min((first + 1) * at_once);
                for item in some.clone() {
                    let (tile, kv_head) = of_item(item);
                    let next = some.contains(&(item + 1)).then_some(kv_head + 1).filter(|head| *head < dims.kv_heads);
                    with_scratch(&|own| {
                        if alone {
                            tile.clone().for_each(|r| store(r, kv_head, own.key_value.as_mut_ptr()));
                        }
                        let query = query(&tile, kv_head, next);
                        // SAFETY: the tier is available; the span's keys up to the last query are stored as the pages'
                        // type, and each item has its own part of the output.
                        unsafe {
                            match pages.kv {
                                KvType::F32 => tier.run(query.over::<F32>(own)),
                                KvType::F16 => tier.run(query.over::<F16>(own)),
                                KvType::Q8_0 => tier.run(query.over::<Q8>(own)),
                            }
                        }
                    });
                    finish(tile, kv_head);
                }
            });
        }
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

/// Where partial results go: each part writes its own.
#[derive(Clone, Copy)]
struct Partials(*mut f32);

// SAFETY: as its comment says.
unsafe impl Sync for Partials {}

impl Partials {
    fn of(self, at: usize) -> *mut f32 {
        self.0.wrapping_add(at)
    }
}
