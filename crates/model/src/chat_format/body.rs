//! Tool calls out of the whole text between their markers.

use serde_json::{Map, Value};

use super::notation::Reader;
use super::stream::ToolCall;
use super::{Body, Tags};

const NAMES: [&str; 2] = ["name", "tool_name"];
const ARGUMENTS: [&str; 3] = ["arguments", "parameters", "args"];

/// The tools that a model was told of, for the types of arguments that are written as plain text.
#[derive(Debug, Clone, Default)]
pub(super) struct Tools(Vec<Value>);

impl Tools {
    /// `tools` is a list in the form of OpenAI's API, the `function` around each or not.
    pub fn new(tools: &Value) -> Self {
        let functions = tools.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        Self(functions.map(|tool| tool.get("function").unwrap_or(tool).clone()).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|tool| tool["name"] == name)
    }

    /// The value of an argument that is written as plain text: what the tool's schema says, else JSON if it is that.
    fn value(&self, tool: &str, key: &str, text: &str) -> Value {
        let tool = self.0.iter().find(|other| other["name"] == tool);
        let kind = tool.and_then(|tool| tool["parameters"]["properties"][key].get("type"));
        let plain = || Value::String(text.to_owned());
        match (kind, serde_json::from_str(text)) {
            (Some(kind), _) if kind == "string" => plain(),
            (_, Ok(value)) => value,
            (None, Err(_)) => plain(),
            // Some templates write what Python prints.
            (Some(_), Err(_)) => {
                let mut reader = Reader::python(text);
                reader.value().filter(|value| reader.at_end() && !value.is_string()).unwrap_or_else(plain)
            }
        }
    }
}

impl Body {
    /// The calls in `text`; `None` where it is none.
    pub fn parse(&self, text: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
        match self {
            Self::Json => json_calls(text, |object| {
                let name = NAMES.iter().find_map(|name| object.get(*name))?.as_str()?.to_owned();
                let arguments = ARGUMENTS.iter().find_map(|name| object.get(*name));
                Some(ToolCall { name, arguments: arguments.map_or_else(|| Some(Map::new()), arguments_of)? })
            }),
            Self::JsonByName => json_calls(text, |object| {
                let mut entries = object.iter();
                let ((name, arguments), None) = (entries.next()?, entries.next()) else { return None };
                Some(ToolCall { name: name.clone(), arguments: arguments_of(arguments)? })
            }),
            Self::NameAndJson { separator, name_end } => {
                let (before, json) = text.split_once(separator)?;
                let name = if name_end.is_empty() { before } else { before.split(name_end).next()? };
                let name = name.split_whitespace().next()?;
                let arguments = arguments_of(&serde_json::from_str(json.trim()).ok()?)?;
                Some(vec![ToolCall { name: proper_name(name)?, arguments }])
            }
            Self::Tags(tags) => tags.parse(text, tools),
            Self::Python => python_calls(text),
            Self::Braces => {
                let mut reader = Reader::gemma(text);
                let name = reader.take("call:").then(|| reader.until("{"))??;
                let arguments = reader.map("}")?;
                reader.at_end().then_some(vec![ToolCall { name: proper_name(name)?, arguments }])
            }
        }
    }
}

fn proper_name(text: &str) -> Option<String> {
    let name = text.trim();
    let is_proper = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "<>{}[]\"".contains(c));
    is_proper.then(|| name.to_owned())
}

/// An object, or one that is written as text.
fn arguments_of(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Null => Some(Map::new()),
        _ => None,
    }
}

/// All objects in `text`, which are alone, in lists, or one after the other.
fn json_calls(text: &str, call: impl Fn(&Map<String, Value>) -> Option<ToolCall>) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    let mut rest = text.trim_start_matches(is_between);
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next()?.ok()? {
            Value::Object(object) => calls.push(call(&object)?),
            Value::Array(items) => {
                for item in &items {
                    calls.push(call(item.as_object()?)?);
                }
            }
            _ => return None,
        }
        rest = rest[values.byte_offset()..].trim_start_matches(is_between);
    }
    (!calls.is_empty()).then_some(calls)
}

/// Characters that may stand between two objects.
pub(super) fn is_between(character: char) -> bool {
    character.is_ascii_whitespace() || matches!(character, ',' | ';')
}

fn python_calls(text: &str) -> Option<Vec<ToolCall>> {
    let mut reader = Reader::python(text);
    let listed = reader.take("[");
    let mut calls = Vec::new();
    while !(listed && reader.take("]")) {
        let name = proper_name(reader.until("(")?)?;
        calls.push(ToolCall { name, arguments: reader.keywords()? });
        if !reader.take(",") {
            if listed && !reader.take("]") {
                return None;
            }
            break;
        }
    }
    (reader.at_end() && !calls.is_empty()).then_some(calls)
}

impl Tags {
    fn parse(&self, text: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
        if self.name[0].is_empty() {
            let (name, arguments) = match self.name[1] {
                "" => text.split_at(text.find(self.key[0]).unwrap_or(text.len())),
                end => text.split_once(end)?,
            };
            return Some(vec![self.call(proper_name(name)?, arguments, tools)?]);
        }
        let mut calls = Vec::new();
        let mut parts = text.split(self.name[0]);
        parts.next()?.trim().is_empty().then_some(())?;
        for part in parts {
            let (name, arguments) = part.split_once(self.name[1])?;
            calls.push(self.call(proper_name(name)?, arguments, tools)?);
        }
        (!calls.is_empty()).then_some(calls)
    }

    fn call(&self, name: String, text: &str, tools: &Tools) -> Option<ToolCall> {
        let mut arguments = Map::new();
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(self.key[0]) {
            let (key, after) = after.split_once(self.key[1])?;
            let (attributes, after) = after.split_once(self.value[0])?;
            let (value, after) = after.split_once(self.value[1])?;
            let value = on_own_lines(value);
            let value = match attributes {
                _ if attributes.contains("string=\"true\"") => Value::String(value.to_owned()),
                _ => tools.value(&name, key, value),
            };
            arguments.insert(key.to_owned(), value);
            rest = after;
        }
        Some(ToolCall { name, arguments })
    }
}

/// Without the line ends that set a value on lines of its own.
fn on_own_lines(value: &str) -> &str {
    value.strip_prefix('\n').and_then(|value| value.strip_suffix('\n')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Body, text: &str) -> Option<Value> {
        let tools = Tools::new(&json!([{"name": "f", "parameters": {"properties": {"s": {"type": "string"}}}}]));
        let calls = body.parse(text, &tools)?;
        Some(calls.into_iter().map(|call| json!([call.name, call.arguments])).collect())
    }

    #[test]
    fn json_in_every_shape() {
        let one = json!([["f", {"x": 1}]]);
        for text in [
            r#"{"name": "f", "arguments": {"x": 1}}"#,
            r#" [{"tool_call_id": "0", "tool_name": "f", "parameters": {"x": 1}}] "#,
            r#"{"name": "f", "arguments": "{\"x\": 1}"}"#,
        ] {
            assert_eq!(parse(&Body::Json, text), Some(one.clone()), "{text}");
        }
        let two = parse(&Body::Json, "{\"name\": \"f\"}\n{\"name\": \"g\", \"arguments\": {}}");
        assert_eq!(two, Some(json!([["f", {}], ["g", {}]])));
        assert_eq!(parse(&Body::JsonByName, r#"[{"f": {"x": 1}}]"#), Some(one));
        for text in
            ["", "[]", "{}", "[1]", r#"{"name": 1}"#, r#"{"name": "f", "arguments": [1]}"#, r#"{"name": "f"} x"#]
        {
            assert_eq!(parse(&Body::Json, text), None, "{text}");
        }
    }

    #[test]
    fn python_with_and_without_list() {
        assert_eq!(
            parse(&Body::Python, "[f(s='a, b', x=[1, 2]), g()]"),
            Some(json!([["f", {"s": "a, b", "x": [1, 2]}], ["g", {}]]))
        );
        assert_eq!(parse(&Body::Python, "f()"), Some(json!([["f", {}]])));
        for text in ["[f()", "[]", "f(1)", "f() g()", "[f(x=)]"] {
            assert_eq!(parse(&Body::Python, text), None, "{text}");
        }
    }

    #[test]
    fn tags_take_types_from_the_schema() {
        let tags = Body::Tags(Tags { name: ["<f=", ">"], key: ["<p=", ">"], value: ["", "</p>"] });
        let text = "\n<f=f>\n<p=s>\n5\n</p>\n<p=x>\n5\n</p>\n<p=y>a\nb</p>\n</f>\n<f=g></f>";
        assert_eq!(parse(&tags, text), Some(json!([["f", {"s": "5", "x": 5, "y": "a\nb"}], ["g", {}]])));
        assert_eq!(parse(&tags, "no call"), None);
        assert_eq!(parse(&tags, "<f=f><p=x>1"), None);
    }
}
