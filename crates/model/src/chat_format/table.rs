//! The formats of the field. An earlier row counts before a later one.

use super::{Body, ReasoningFormat, Tags, ToolFormat};

pub(super) static REASONING_FORMATS: &[ReasoningFormat] = &[
    ReasoningFormat {
        name: "seed",
        marks: &[&["</seed:think>"]],
        open: "<seed:think>",
        close: "</seed:think>",
        answer: &[],
    },
    ReasoningFormat {
        name: "minimax",
        marks: &[&["</mm:think>"]],
        open: "<mm:think>",
        close: "</mm:think>",
        answer: &[],
    },
    ReasoningFormat {
        name: "cohere",
        marks: &[&["<|START_THINKING|>"]],
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        answer: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
    },
    ReasoningFormat { name: "mistral", marks: &[&["[THINK]"]], open: "[THINK]", close: "[/THINK]", answer: &[] },
    ReasoningFormat {
        name: "gemma4",
        marks: &[&["<|channel>thought"]],
        open: "<|channel>thought",
        close: "<channel|>",
        answer: &[],
    },
    ReasoningFormat {
        name: "apriel",
        marks: &[&["Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"]],
        open: "Here are my reasoning steps:",
        close: "[BEGIN FINAL RESPONSE]",
        answer: &["[END FINAL RESPONSE]"],
    },
    ReasoningFormat {
        name: "harmony",
        marks: &[&["<|channel|>analysis"]],
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        answer: &["<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>"],
    },
    ReasoningFormat {
        name: "granite",
        marks: &[&["<think></think>", "<response></response>"]],
        open: "<think>",
        close: "</think>",
        answer: &["<response>", "</response>"],
    },
    ReasoningFormat { name: "think", marks: &[&["</think>"]], open: "<think>", close: "</think>", answer: &[] },
];

/// Marks of the list `[{"name": …, "arguments": …}]` and the like are the markers around it.
const JSON: ToolFormat =
    ToolFormat { name: "json", marks: &[], tokens: &[], open: "", close: "", frame: &[], body: Body::Json };

pub(super) static TOOL_FORMATS: &[ToolFormat] = &[
    ToolFormat {
        name: "mistral named",
        marks: &[&["[TOOL_CALLS]", "[ARGS]"]],
        tokens: &["[TOOL_CALLS]", "[ARGS]"],
        open: "[TOOL_CALLS]",
        body: Body::NameAndJson { separator: "[ARGS]", name_end: "[CALL_ID]" },
        ..JSON
    },
    ToolFormat {
        name: "mistral",
        marks: &[&["[TOOL_CALLS]"]],
        tokens: &["[TOOL_CALLS]"],
        open: "[TOOL_CALLS]",
        ..JSON
    },
    ToolFormat {
        name: "deepseek r1",
        marks: &[&["function<｜tool▁sep｜>"], &["'<｜tool▁sep｜>'", "```json"]],
        open: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        close: "```<｜tool▁call▁end｜>",
        frame: &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        body: Body::NameAndJson { separator: "\n```json\n", name_end: "" },
        ..JSON
    },
    ToolFormat {
        name: "deepseek",
        marks: &[&["<｜tool▁sep｜>"]],
        tokens: &["<｜tool▁sep｜>"],
        open: "<｜tool▁call▁begin｜>",
        close: "<｜tool▁call▁end｜>",
        frame: &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        body: Body::NameAndJson { separator: "<｜tool▁sep｜>", name_end: "" },
    },
    ToolFormat {
        name: "deepseek markup",
        marks: &[&["｜DSML｜", "function_calls"]],
        open: "<｜DSML｜function_calls>",
        close: "</｜DSML｜function_calls>",
        body: DSML,
        ..JSON
    },
    ToolFormat {
        name: "deepseek markup of v4",
        marks: &[&["｜DSML｜", "tool_calls"]],
        open: "<｜DSML｜tool_calls>",
        close: "</｜DSML｜tool_calls>",
        body: DSML,
        ..JSON
    },
    ToolFormat {
        name: "harmony",
        marks: &[&["<|channel|>analysis", "<|call|>"]],
        tokens: &["<|constrain|>", "<|call|>"],
        open: "to=functions.",
        close: "<|call|>",
        frame: &["<|channel|>commentary"],
        body: Body::NameAndJson { separator: "<|message|>", name_end: "<|channel|>" },
    },
    ToolFormat {
        name: "kimi",
        marks: &[&["<|tool_call_argument_begin|>"]],
        tokens: &["<|tool_call_argument_begin|>"],
        open: "<|tool_call_begin|>functions.",
        close: "<|tool_call_end|>",
        frame: &["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
        body: Body::NameAndJson { separator: "<|tool_call_argument_begin|>", name_end: ":" },
    },
    ToolFormat {
        name: "gemma4",
        marks: &[&["<|tool_call>call:"]],
        tokens: &["<|tool_call>", "<tool_call|>"],
        open: "<|tool_call>",
        close: "<tool_call|>",
        body: Body::Braces,
        ..JSON
    },
    ToolFormat {
        name: "lfm2",
        marks: &[&["<|tool_call_start|>"], &["<|tool_list_start|>"], &["List of tools: ["]],
        tokens: &["<|tool_call_start|>", "<|tool_call_end|>"],
        open: "<|tool_call_start|>",
        close: "<|tool_call_end|>",
        body: Body::Python,
        ..JSON
    },
    ToolFormat {
        name: "seed",
        marks: &[&["<seed:tool_call>"]],
        open: "<seed:tool_call>",
        close: "</seed:tool_call>",
        body: FUNCTION_AND_PARAMETER,
        ..JSON
    },
    ToolFormat {
        name: "qwen3 coder",
        marks: &[&["<tool_call>", "<function=", "<parameter="]],
        open: "<tool_call>",
        close: "</tool_call>",
        body: FUNCTION_AND_PARAMETER,
        ..JSON
    },
    ToolFormat {
        name: "glm",
        marks: &[&["<tool_call>", "<arg_key>"]],
        open: "<tool_call>",
        close: "</tool_call>",
        body: Body::Tags(Tags {
            name: ["", ""],
            key: ["<arg_key>", "</arg_key>"],
            value: ["<arg_value>", "</arg_value>"],
        }),
        ..JSON
    },
    ToolFormat {
        name: "minimax m2",
        marks: &[&["<minimax:tool_call>"], &["minimax:tool_call", "<invoke name="]],
        open: "<minimax:tool_call>",
        close: "</minimax:tool_call>",
        body: Body::Tags(Tags {
            name: ["<invoke name=\"", "\">"],
            key: ["<parameter name=\"", "\""],
            value: [">", "</parameter>"],
        }),
        ..JSON
    },
    ToolFormat {
        name: "minicpm5",
        marks: &[&["<function name=", "<param name="]],
        open: "<function name=\"",
        close: "</function>",
        body: Body::Tags(Tags { name: ["", "\">"], key: ["<param name=\"", "\""], value: [">", "</param>"] }),
        ..JSON
    },
    ToolFormat {
        name: "functionary",
        marks: &[&["<function=", "</function>"]],
        open: "<function=",
        close: "</function>",
        body: Body::NameAndJson { separator: ">", name_end: "" },
        ..JSON
    },
    ToolFormat {
        name: "cohere",
        marks: &[&["<|START_ACTION|>"]],
        tokens: &["<|START_ACTION|>", "<|END_ACTION|>"],
        open: "<|START_ACTION|>",
        close: "<|END_ACTION|>",
        ..JSON
    },
    ToolFormat {
        name: "apertus",
        marks: &[&["<|tools_prefix|>"]],
        tokens: &["<|tools_prefix|>", "<|tools_suffix|>"],
        open: "<|tools_prefix|>",
        close: "<|tools_suffix|>",
        body: Body::JsonByName,
        ..JSON
    },
    ToolFormat { name: "nemotron", marks: &[&["<TOOLCALL>"]], open: "<TOOLCALL>", close: "</TOOLCALL>", ..JSON },
    ToolFormat {
        name: "tool calls",
        marks: &[&["<tool_calls>"]],
        open: "<tool_calls>",
        close: "</tool_calls>",
        ..JSON
    },
    ToolFormat { name: "gigachat", marks: &[&["<|function_call|>"]], open: "<|function_call|>", ..JSON },
    ToolFormat {
        name: "phi4 mini",
        marks: &[&["<|tool_call|>", "<|/tool_call|>"], &["<|tool|>", "<|/tool|>"]],
        tokens: &["<|tool_call|>", "<|/tool_call|>"],
        open: "<|tool_call|>",
        close: "<|/tool_call|>",
        ..JSON
    },
    ToolFormat {
        name: "granite",
        marks: &[&["<|tool_call|>"]],
        tokens: &["<|tool_call|>"],
        open: "<|tool_call|>",
        ..JSON
    },
    ToolFormat { name: "firefunction", marks: &[&["functools["]], open: "functools", ..JSON },
    ToolFormat {
        name: "hermes",
        marks: &[&["<tool_call>", "\"name\": "], &["<tool_call>", "\\\"name\\\": "]],
        tokens: &["<tool_call>", "</tool_call>"],
        open: "<tool_call>",
        close: "</tool_call>",
        ..JSON
    },
    ToolFormat {
        name: "llama3",
        marks: &[&["\"parameters\": dictionary of argument name and its value"]],
        frame: &["<|python_tag|>"],
        ..JSON
    },
];

const FUNCTION_AND_PARAMETER: Body =
    Body::Tags(Tags { name: ["<function=", ">"], key: ["<parameter=", ">"], value: ["", "</parameter>"] });

/// An attribute behind the key says whether the value is a string.
const DSML: Body = Body::Tags(Tags {
    name: ["<｜DSML｜invoke name=\"", "\">"],
    key: ["<｜DSML｜parameter name=\"", "\""],
    value: [">", "</｜DSML｜parameter>"],
});

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;
    use crate::chat_format::{ChatEvent, ChatFormat, ChatStream, ToolCall};

    fn events(format: ChatFormat, text: &str) -> Vec<ChatEvent> {
        let tools = json!([{"name": "f", "parameters": {}}]);
        let mut stream = ChatStream::new(format, Some(&tools), false);
        let mut events = stream.push(text);
        events.extend(stream.finish());
        events
    }

    #[test]
    fn every_tool_format_reads_a_call() {
        let mut names = HashSet::new();
        for row in TOOL_FORMATS {
            assert!(names.insert(row.name) && (!row.marks.is_empty() || !row.tokens.is_empty()), "{}", row.name);
            let body = match &row.body {
                Body::Json => r#"{"name": "f", "arguments": {"x": 5}}"#.to_owned(),
                Body::JsonByName => r#"{"f": {"x": 5}}"#.to_owned(),
                Body::NameAndJson { separator, name_end } => format!("f{name_end}{separator}{{\"x\": 5}}"),
                Body::Tags(Tags { name, key, value }) => {
                    ["", name[0], "f", name[1], key[0], "x", key[1], value[0], "5", value[1]].concat()
                }
                Body::Python => "[f(x=5)]".to_owned(),
                Body::Braces => "call:f{x:5}".to_owned(),
            };
            let arguments = json!({"x": 5}).as_object().unwrap().clone();
            let call = ChatEvent::ToolCall(ToolCall { name: "f".to_owned(), arguments });
            let frame = |at: usize| row.frame.get(at).copied().unwrap_or_default();
            let text = [frame(0), row.open, &body, row.close, frame(1)].concat();
            let format = ChatFormat { reasoning: None, tools: Some(row) };
            assert_eq!(events(format, &text), [call], "{}: {text}", row.name);
        }
    }

    #[test]
    fn every_reasoning_format_reads_thoughts() {
        let mut names = HashSet::new();
        for row in REASONING_FORMATS {
            assert!(names.insert(row.name) && !row.marks.is_empty(), "{}", row.name);
            let answer = |at: usize| row.answer.get(at).copied().unwrap_or_default();
            let text = [row.open, "\nIndeed.\n", row.close, answer(0), "\n\nYes.", answer(1)].concat();
            let expected = [ChatEvent::Reasoning("Indeed.".to_owned()), ChatEvent::Content("Yes.".to_owned())];
            let format = ChatFormat { reasoning: Some(row), tools: None };
            assert_eq!(events(format, &text), expected, "{}: {text}", row.name);
            assert!(format.prompt_opens_reasoning(&format!("Hi{}\n", row.open)));
        }
    }
}
