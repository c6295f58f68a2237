//! The corpora of the fuzz targets, replayed.

#[path = "../../../fuzz/src/chat_template.rs"]
mod chat_template;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/tokenizer_json.rs"]
mod tokenizer_json;

#[test]
fn corpora() {
    replay::replay("tokenizer_json", tokenizer_json::run);
    replay::replay("chat_template", chat_template::run);
}
