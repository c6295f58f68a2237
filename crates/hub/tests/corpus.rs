//! The corpus of the fuzz target, replayed.

#[path = "../../../fuzz/src/bundle.rs"]
mod bundle;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn corpora() {
    replay::replay("bundle", bundle::run);
}
