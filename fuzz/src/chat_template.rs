//! A chat template, rendered for a conversation with a tool call.

use std::sync::Once;

use model::template::{ChatInput, ChatTemplate};
use serde_json::json;

pub fn run(input: &[u8]) {
    // The fuzzer's own hook ends the process at a panic that rendering catches.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));

    let Ok(template) = ChatTemplate::new("fuzz", &String::from_utf8_lossy(input)) else { return };
    let call = json!({"type": "function", "id": "1", "function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}});
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is <b>1 + 1</b>?\n"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2", "name": "f"},
    ]);
    let parameters = json!({"type": "object", "properties": {"x": {"type": "array"}}});
    let tools = json!([{"type": "function", "function": {"name": "f", "description": "f", "parameters": parameters}}]);
    let input = ChatInput {
        messages: &messages,
        tools: Some(&tools),
        add_generation_prompt: true,
        bos_token: Some("<s>"),
        eos_token: Some("</s>"),
        extra: None,
        now: 1_700_000_000,
    };
    let _ = template.render(&input);
}
