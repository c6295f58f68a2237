//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/src/archive.rs"]
mod archive;
#[path = "../../../fuzz/src/gguf.rs"]
mod gguf;
#[path = "../../../fuzz/src/imatrix.rs"]
mod imatrix;
#[path = "../../../fuzz/src/npz.rs"]
mod npz;
#[path = "../../../fuzz/src/pytorch.rs"]
mod pytorch;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/safetensors.rs"]
mod safetensors;

#[test]
fn corpora() {
    replay::replay("gguf", gguf::run);
    replay::replay("imatrix", imatrix::run);
    replay::replay("safetensors", safetensors::run);
    replay::replay("pytorch", pytorch::run);
    replay::replay("npz", npz::run);
}
