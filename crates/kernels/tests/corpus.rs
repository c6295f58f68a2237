//! The corpus of the fuzz target of blocks, replayed.

#[path = "../../../fuzz/src/quant_blocks.rs"]
mod quant_blocks;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn corpus() {
    replay::replay("quant_blocks", quant_blocks::run);
}
