//! Thoughts and tool calls come out of the text that templates write for them, however it is cut.

mod support;

use std::fs;

use model::chat_format::{ChatEvent, ChatFormat, ChatStream, ToolCall};
use model::template::{ChatInput, ChatTemplate};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Events with neighbours of a kind as one.
fn joined(events: impl IntoIterator<Item = ChatEvent>) -> Vec<ChatEvent> {
    let mut all: Vec<ChatEvent> = Vec::new();
    for event in events {
        match (all.last_mut(), event) {
            (Some(ChatEvent::Reasoning(text)), ChatEvent::Reasoning(more))
            | (Some(ChatEvent::Content(text)), ChatEvent::Content(more)) => text.push_str(&more),
            (_, event) => all.push(event),
        }
    }
    all
}

fn parse<'a>(
    format: ChatFormat,
    tools: &Value,
    in_reasoning: bool,
    pieces: impl IntoIterator<Item = &'a str>,
) -> Vec<ChatEvent> {
    let mut stream = ChatStream::new(format, Some(tools), in_reasoning);
    let mut events: Vec<ChatEvent> = pieces.into_iter().flat_map(|piece| stream.push(piece)).collect();
    events.extend(stream.finish());
    joined(events)
}

fn reasoning(text: &str) -> ChatEvent {
    ChatEvent::Reasoning(text.to_owned())
}

fn content(text: &str) -> ChatEvent {
    ChatEvent::Content(text.to_owned())
}

fn call(name: &str, arguments: Value) -> ChatEvent {
    ChatEvent::ToolCall(ToolCall { name: name.to_owned(), arguments: arguments.as_object().unwrap().clone() })
}

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}, "exact": {"type": "boolean"}}});
    json!([{"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": parameters}},
        {"type": "function", "function": {"name": "now", "description": "Time.", "parameters": {"type": "object", "properties": {}}}}])
}

/// What ends a turn in the templates below.
const ENDS: [&str; 25] = [
    "<|im_end|>",
    "</s>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<seed:eos>",
    "<|END_OF_TURN_TOKEN|>",
    "<|message_sep|>",
    "<end_of_turn>",
    "<SPECIAL_12>",
    "<sep>",
    "<end_of_sentence>",
    "<|role_end|>",
    "</assistant>",
    "<|eom_id|>",
    "<|calls|>",
    "<|assistant_end|>",
    "<|return|>",
    "<|START_OF_TURN_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<｜Assistant｜>",
];

/// For each template of llama.cpp's source: its reasoning, its tool calls, and which turns come back from what it writes:
/// `t`houghts and an answer, two `c`alls, `1` call, `b`oth thoughts and calls, an answer and calls (`x`). `-` stands for a turn
/// that the template refuses, `_` for one of which it does not write all, `.` for one that does not come back: formats that no
/// row has (GigaChat 3, Kimi K3, MiniMax M3, Muse, Hy3, Solar), and a second turn of the assistant that the template puts
/// between the answer and its calls (Nemotron Nano v2, DeepSeek R1 for Qwen).
#[rustfmt::skip]
const FOUND: &[(&str, &str, &str, &str)] = &[
    ("Apertus-8B-Instruct", "", "apertus", "_c1_x"),
    ("Apriel-1.6-15b-Thinker-fixed", "apriel", "tool calls", "tc1bx"),
    ("Bielik-11B-v3.0-Instruct", "think", "hermes", "tc1bx"),
    ("ByteDance-Seed-OSS", "seed", "seed", "tc1bx"),
    ("Cohere2MoE", "cohere", "cohere", "tc1b_"),
    ("CohereForAI-c4ai-command-r-plus-tool_use", "", "", "-----"),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "cohere", "cohere", "_c1b_"),
    ("GLM-4.6", "think", "glm", "tc1bx"),
    ("GLM-4.7-Flash", "think", "glm", "tc1bx"),
    ("GigaChat3-10B-A1.8B", "", "", "__.__"),
    ("GigaChat3.1-10B-A1.8B", "", "gigachat", "__1__"),
    ("HuggingFaceTB-SmolLM3-3B", "think", "", "_____"),
    ("Kimi-K2-Instruct", "", "kimi", "_----"),
    ("Kimi-K2-Thinking", "think", "kimi", "_----"),
    ("Kimi-K3", "", "", "....."),
    ("LFM2-8B-A1B", "", "lfm2", "_____"),
    ("LFM2.5-8B-A1B", "think", "lfm2", "tc1bx"),
    ("LFM2.5-Instruct", "think", "lfm2", "_____"),
    ("MiMo-VL", "", "hermes", "_c1_x"),
    ("MiniMax-M1", "", "tool calls", "_c1__"),
    ("MiniMax-M2", "think", "minimax m2", "tc1bx"),
    ("MiniMax-M3", "minimax", "", "t...."),
    ("Mistral-Small-3.2-24B-Instruct-2506", "", "mistral named", "_c1__"),
    ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "think", "qwen3 coder", "tc1bx"),
    ("NVIDIA-Nemotron-Nano-v2", "think", "nemotron", "_c1_."),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "", "hermes", "-c1__"),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "", "hermes", "-c1__"),
    ("Qwen-QwQ-32B", "think", "hermes", "_c1_x"),
    ("Qwen-Qwen2.5-7B-Instruct", "", "hermes", "_c1_x"),
    ("Qwen-Qwen3-0.6B", "think", "hermes", "tc1bx"),
    ("Qwen3-Coder", "", "qwen3 coder", "_c1_x"),
    ("Qwen3.5-4B", "think", "qwen3 coder", "tc1bx"),
    ("Reka-Edge", "think", "hermes", "tc1bx"),
    ("Spark2.5", "think", "glm", "tc1bx"),
    ("StepFun3.5-Flash", "think", "qwen3 coder", "tc1bx"),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "think", "deepseek r1", "_____"),
    ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "think", "deepseek r1", "_c1_."),
    ("deepseek-ai-DeepSeek-V3.1", "think", "deepseek", "_c1_x"),
    ("deepseek-ai-DeepSeek-V3.2", "think", "deepseek markup", "tc1bx"),
    ("deepseek-ai-DeepSeek-V4-Flash-0731", "think", "deepseek markup of v4", "tc1bx"),
    ("deepseek-ai-DeepSeek-V4", "think", "deepseek markup of v4", "tc1bx"),
    ("fireworks-ai-llama-3-firefunction-v2", "", "firefunction", "-----"),
    ("google-gemma-2-2b-it", "", "", "_____"),
    ("google-gemma-4-31B-it-interleaved", "gemma4", "gemma4", "_c1bx"),
    ("google-gemma-4-31B-it", "gemma4", "gemma4", "_c1bx"),
    ("ibm-granite-granite-3.3-2B-Instruct", "granite", "granite", "_____"),
    ("ibm-granite-granite-4.0", "", "hermes", "_c1_x"),
    ("ibm-granite-granite-4.1", "", "hermes", "_c1_x"),
    ("inclusionai-ling-3.0-flash", "think", "glm", "tc1bx"),
    ("llama-cpp-deepseek-r1", "think", "deepseek r1", "_c1__"),
    ("llama-cpp-rwkv-world", "think", "", "_____"),
    ("meetkai-functionary-medium-v3.1", "", "functionary", "_c1_x"),
    ("meetkai-functionary-medium-v3.2", "", "", "_----"),
    ("meta-llama-Llama-3.1-8B-Instruct", "", "llama3", "_-1--"),
    ("meta-llama-Llama-3.2-3B-Instruct", "", "llama3", "_-1--"),
    ("meta-llama-Llama-3.3-70B-Instruct", "", "llama3", "_-1--"),
    ("microsoft-Phi-3.5-mini-instruct", "", "", "_____"),
    ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral", "mistral named", "_c1_x"),
    ("mistralai-Mistral-Nemo-Instruct-2407", "", "mistral", "_c1__"),
    ("moonshotai-Kimi-K2", "", "kimi", "_c1_x"),
    ("muse-glimmer", "", "", "...._"),
    ("openai-gpt-oss-120b", "harmony", "harmony", "t_1__"),
    ("openbmb-MiniCPM5-1B", "think", "minicpm5", "tc1bx"),
    ("poolside-Laguna-S-2.1", "think", "glm", "tc1bx"),
    ("poolside-Laguna-XS-2.1", "think", "glm", "tc1bx"),
    ("poolside-Laguna-XS.2", "think", "glm", "tc1bx"),
    ("tencent-Hy3", "", "", "....."),
    ("unsloth-Apriel-1.5", "", "tool calls", "_c1_x"),
    ("unsloth-mistral-Devstral-Small-2507", "", "mistral named", "_c1_x"),
    ("upstage-Solar-Open-100B", "", "", "_..__"),
];

#[test]
fn assistant_turns_of_templates_come_back() {
    let folder = support::llama_cpp_models().join("templates");
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let names: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".jinja")).collect();
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        let source = fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let format = ChatFormat::detect(&source, |_| false);
        let template = ChatTemplate::new(name, &source).unwrap();
        let proof: String = TURNS.iter().map(|turn| come_back(&template, format, turn, &mut failures)).collect();
        found.push((name, format.reasoning.map_or("", |row| row.name), format.tools.map_or("", |row| row.name), proof));
    }
    let expected: Vec<_> =
        FOUND.iter().map(|&(name, reasoning, tools, proof)| (name, reasoning, tools, proof.to_owned())).collect();
    let rows: Vec<String> = found.iter().map(|row| format!("    {row:?},")).collect();
    assert!(found == expected, "found\n{}\n{}", rows.join("\n"), failures.join("\n"));
}

/// Letter, thoughts, answer, calls.
type Turn = (char, &'static str, &'static str, usize);
const TURNS: [Turn; 5] = [
    ('t', "2 + 2\nis 4.", "It is 4.", 0),
    ('c', "", "", 2),
    ('1', "", "", 1),
    ('b', "Let me see.", "", 2),
    ('x', "", "One moment.", 2),
];

fn come_back(template: &ChatTemplate, format: ChatFormat, turn: &Turn, failures: &mut Vec<String>) -> char {
    let &(letter, thoughts, answer, count) = turn;
    let city = "Zürich \"HB\" 5";
    let arguments = [json!({"city": city, "days": 3, "tags": ["a", 1.5, null], "exact": true}), json!({"city": "7"})];
    let calls: Vec<Value> = (0..count)
        .map(|at| json!({"id": format!("call0000{at}"), "type": "function", "function": {"name": "get_weather", "arguments": arguments[at]}}))
        .collect();
    let mut message = json!({"role": "assistant", "content": answer});
    if !thoughts.is_empty() {
        message["reasoning_content"] = json!(thoughts);
        message["thinking"] = json!(thoughts);
    }
    if count > 0 {
        message["tool_calls"] = json!(calls);
    }
    let user = json!({"role": "user", "content": "Hi"});
    let (tools, extra) = (tools(), json!({"enable_thinking": true, "thinking": true}));
    let render = |messages: &Value, add_generation_prompt: bool| {
        let tools = (count > 0).then_some(&tools);
        let (bos_token, eos_token) = (Some("<s>"), Some("</s>"));
        let extra = extra.as_object();
        template.render(&ChatInput { messages, tools, add_generation_prompt, bos_token, eos_token, extra, now: 0 })
    };
    let (Ok(prompt), Ok(whole)) = (render(&json!([user]), true), render(&json!([user, message]), false)) else {
        return '-';
    };
    // Where a turn without thoughts closes what the prompt opened, the prompt's end is not part of the whole.
    let same = prompt.chars().zip(whole.chars()).take_while(|(a, b)| a == b);
    let common: usize = same.map(|(character, _)| character.len_utf8()).sum();
    // Nor is half of a marker.
    let marker = whole[..common].rfind(['<', '[']).filter(|&at| !whole[at..common].contains(['>', ']', '\n']));
    let start = if common < prompt.len() { marker.unwrap_or(common) } else { common };
    let written: &str = &whole[start..];
    if !written.contains(thoughts) || !written.contains(answer) || written.matches("get_weather").count() < count {
        return '_';
    }
    let closes = format.reasoning.is_some_and(|row| written.contains(row.close));
    let in_reasoning = format.prompt_opens_reasoning(&prompt) && (common == prompt.len() || closes);
    let mut written = written.trim_end();
    while let Some(rest) = ENDS.iter().find_map(|end| written.strip_suffix(end)) {
        written = rest.trim_end();
    }

    let events = parse(format, &tools, in_reasoning, [written]);
    let text =
        |wanted: fn(&ChatEvent) -> Option<&String>| events.iter().filter_map(wanted).cloned().collect::<String>();
    let found_thoughts = text(|event| if let ChatEvent::Reasoning(text) = event { Some(text) } else { None });
    let found_answer = text(|event| if let ChatEvent::Content(text) = event { Some(text) } else { None });
    let found_calls = events.iter().filter(|event| matches!(event, ChatEvent::ToolCall(_))).cloned();
    let expected_calls = arguments[..count].iter().map(|arguments| call("get_weather", arguments.clone()));
    // Some templates write arguments sorted; the order of keys does not count.
    if found_thoughts == thoughts && found_answer.trim() == answer && found_calls.eq(expected_calls) {
        assert_eq!(events, parse(format, &tools, in_reasoning, written.split_inclusive(|_| true)));
        return letter;
    }
    failures.push(format!("{letter} {in_reasoning} {written:?}: {events:?}"));
    '.'
}

fn detect(marks: &str) -> ChatFormat {
    ChatFormat::detect(marks, |_| false)
}

/// Hermes with thoughts, as Qwen 3 has them.
fn qwen3() -> ChatFormat {
    detect(r#"</think> <tool_call> {"name": "#)
}

#[test]
fn text_that_is_none_of_it_stays() {
    let plain = " \n a < b, <tool, <think> and </think> {\"name\": 1}\n\n ";
    assert_eq!(parse(qwen3(), &tools(), false, [plain]), [content(plain)]);
    assert_eq!(parse(ChatFormat::default(), &tools(), true, [plain]), [content(plain)]);
    // Without tools no call is one.
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    assert_eq!(parse(qwen3(), &json!([]), false, [call]), [content(call)]);
}

#[test]
fn broken_calls_are_text() {
    for text in [
        "<tool_call>\n{\"name\": \"now\"",
        "<tool_call>\n{\"name\": 5}\n</tool_call>",
        "<tool_call>hello</tool_call>",
        "<tool_call>{\"name\": \"now\"} x</tool_call>",
        "<tool_call>",
        "<tool_call>{}}</tool_call>",
    ] {
        assert_eq!(parse(qwen3(), &tools(), false, [text]), [content(text)], "{text}");
    }
    let again = "<tool_call>no <tool_call>{\"name\": \"now\"}</tool_call>";
    assert_eq!(parse(qwen3(), &tools(), false, [again]), [content("<tool_call>no"), call("now", json!({}))]);
}

#[test]
fn calls_that_the_end_cuts_short() {
    let whole = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n";
    assert_eq!(parse(qwen3(), &tools(), false, [whole]), [call("now", json!({}))]);
    assert_eq!(parse(qwen3(), &tools(), true, ["still thinking\n"]), [reasoning("still thinking")]);
}

#[test]
fn markers_inside_arguments_do_not_end_a_call() {
    let text = r#"<tool_call>{"name": "now", "arguments": {"a": "</tool_call> \"}]"}}</tool_call> end"#;
    let arguments = json!({"a": "</tool_call> \"}]"});
    assert_eq!(parse(qwen3(), &tools(), false, [text]), [call("now", arguments), content("end")]);
}

#[test]
fn bare_json_is_a_call_only_of_a_known_tool() {
    let llama3 = detect("\"parameters\": dictionary of argument name and its value");
    let known = r#" {"name": "now", "parameters": {"x": 1}}"#;
    assert_eq!(parse(llama3, &tools(), false, [known]), [call("now", json!({"x": 1}))]);
    assert_eq!(parse(llama3, &tools(), false, [&format!("<|python_tag|>{known}")[..]]), [call("now", json!({"x": 1}))]);
    for other in [r#"{"name": "other", "parameters": {}} is JSON"#, r#"{"a": [1]}"#, r#"So: {"name": "now"}"#, "{"] {
        assert_eq!(parse(llama3, &tools(), false, [other]), [content(other)], "{other}");
    }
}

/// Tokens tell where the template says nothing.
#[test]
fn tokens_tell_the_format() {
    let by_tokens = |tokens: &'static [&'static str]| ChatFormat::detect("", |token| tokens.contains(&token)).tools;
    assert_eq!(by_tokens(&["<|tool_call|>", "<|/tool_call|>"]).map(|row| row.name), Some("phi4 mini"));
    assert_eq!(by_tokens(&["<|tool_call|>"]).map(|row| row.name), Some("granite"));
    assert_eq!(by_tokens(&["<tool_call>", "</tool_call>"]).map(|row| row.name), Some("hermes"));
    assert_eq!(by_tokens(&["<|tool_call_start|>", "<|tool_call_end|>"]).map(|row| row.name), Some("lfm2"));
    assert_eq!(by_tokens(&["<s>"]), None);
    let phi4 = detect("<|tool|> <|/tool|>");
    let text = "<|tool_call|>[{\"name\": \"now\", \"arguments\": {}}]<|/tool_call|>";
    assert_eq!(parse(phi4, &tools(), false, [text]), [call("now", json!({}))]);
    let granite = ChatFormat::detect("", |token| token == "<|tool_call|>");
    let text = "<|tool_call|>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"now\", \"arguments\": {\"x\": []}}]";
    assert_eq!(parse(granite, &tools(), false, [text]), [call("now", json!({})), call("now", json!({"x": []}))]);
}

/// A format of each kind of body, by what a template says.
const KINDS: [&str; 12] = [
    r#"</think> <tool_call> {"name": "#,
    "</think> <tool_call> <function= <parameter=",
    "</think> <tool_call> <arg_key>",
    "[THINK] [TOOL_CALLS] [ARGS]",
    "[TOOL_CALLS]",
    "<|channel>thought <|tool_call>call:",
    "<|tool_call_start|>",
    "<|START_THINKING|> <|START_ACTION|>",
    "<|tools_prefix|>",
    "<｜tool▁sep｜>",
    "<|channel|>analysis <|call|>",
    "\"parameters\": dictionary of argument name and its value",
];

/// Markers, whole and broken, JSON and other text.
fn text() -> impl Strategy<Value = String> {
    let words = vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "[THINK]",
        "[/THINK]",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "<|channel>thought\n",
        "<channel|>",
        "<|tool_call>call:",
        "<tool_call|>",
        "<|tool_call_start|>",
        "<|tool_call_end|>",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<|START_RESPONSE|>",
        "<|tools_prefix|>",
        "<|tools_suffix|>",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<|channel|>analysis<|message|>",
        "<|end|>",
        "<|start|>assistant",
        "to=functions.",
        "<|message|>",
        "<|call|>",
        "<function=now>",
        "</function>",
        "<parameter=x>",
        "</parameter>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "{\"name\": \"now\", \"arguments\": {\"x\": [1, \"é\"]}}",
        "[{\"name\": \"now\"}]",
        "now",
        "{x:1}",
        "now(x=1)",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        " ",
        "\n",
        ",",
        "é",
        "Hello.",
        "<",
        "<|",
    ];
    proptest::collection::vec(proptest::sample::select(words), 0..14).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn pieces_do_not_matter(
        text in text(), kind in 0..KINDS.len(), inside in any::<bool>(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let format = detect(KINDS[kind]);
        let whole = parse(format, &tools(), inside, [text.as_str()]);
        let characters = text.char_indices().map(|(at, character)| &text[at..at + character.len_utf8()]);
        prop_assert_eq!(&parse(format, &tools(), inside, characters), &whole);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|&at| text.is_char_boundary(at)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|place| &text[place[0]..place[1]]);
        prop_assert_eq!(&parse(format, &tools(), inside, pieces), &whole);
    }

    /// Without formats, or where no marker is, the text comes out as it went in.
    #[test]
    fn other_text_comes_back(text in "[a-z \n<|{}\"é]{0,40}", kind in 0..KINDS.len() - 1) {
        for format in [ChatFormat::default(), detect(KINDS[kind])] {
            let expected = if text.is_empty() { vec![] } else { vec![content(&text)] };
            prop_assert_eq!(parse(format, &tools(), false, [text.as_str()]), expected);
        }
    }
}
