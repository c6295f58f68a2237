//! Values in notations other than JSON: those of Python, and that of Gemma 4.

use serde_json::{Map, Number, Value};

/// Lists and maps inside each other.
const MAX_DEPTH: usize = 64;

/// Reads values from the front of a text. `None` where the notation is broken.
pub(super) struct Reader<'a> {
    rest: &'a str,
    depth: usize,
    /// What stands around a string, and whether a backslash means something in it.
    quotes: &'static [(&'static str, bool)],
    /// Keys are strings, else text up to the colon.
    keys_are_values: bool,
}

impl<'a> Reader<'a> {
    /// For literals of Python; JSON's words count too.
    pub fn python(text: &'a str) -> Self {
        Self { rest: text, depth: 0, quotes: &[("'", true), ("\"", true)], keys_are_values: true }
    }

    /// For values of Gemma 4: JSON with bare keys and other quotes.
    pub fn gemma(text: &'a str) -> Self {
        Self { rest: text, depth: 0, quotes: &[("<|\"|>", false), ("\"", true)], keys_are_values: false }
    }

    pub fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `text`, with space before it, if it is there.
    pub fn take(&mut self, text: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// What comes before `end`, which is taken too.
    pub fn until(&mut self, end: &str) -> Option<&'a str> {
        let (before, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(before)
    }

    pub fn value(&mut self) -> Option<Value> {
        self.skip_space();
        if let Some((quote, escapes)) = self.quotes.iter().find(|(quote, _)| self.rest.starts_with(quote)) {
            self.rest = &self.rest[quote.len()..];
            return self.string(quote, *escapes).map(Value::String);
        }
        for (open, close) in [("[", "]"), ("(", ")")] {
            if self.take(open) {
                return self.deeper(|reader| reader.list(close)).map(Value::Array);
            }
        }
        if self.take("{") {
            return self.deeper(|reader| reader.map("}")).map(Value::Object);
        }
        let end = self.rest.find([',', ']', '}', ')', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.trim_end() {
            "true" | "True" => Some(Value::Bool(true)),
            "false" | "False" => Some(Value::Bool(false)),
            "null" | "None" => Some(Value::Null),
            number => number.parse::<Number>().ok().map(Value::Number),
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let result = if self.depth > MAX_DEPTH { None } else { read(self) };
        self.depth -= 1;
        result
    }

    fn list(&mut self, close: &str) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.value()?);
            if !self.take(",") {
                return self.take(close).then_some(items);
            }
        }
        Some(items)
    }

    /// The rest of a map, up to `close`.
    pub fn map(&mut self, close: &str) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        while !self.take(close) {
            let key = if self.keys_are_values || self.quotes.iter().any(|(quote, _)| self.rest.starts_with(quote)) {
                let Value::String(key) = self.value()? else { return None };
                self.take(":").then_some(key)?
            } else {
                self.until(":")?.trim().to_owned()
            };
            map.insert(key, self.value()?);
            if !self.take(",") {
                return self.take(close).then_some(map);
            }
        }
        Some(map)
    }

    /// The rest of `name=value, …)`.
    pub fn keywords(&mut self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        while !self.take(")") {
            let key = self.until("=")?.trim().to_owned();
            map.insert(key, self.value()?);
            if !self.take(",") {
                return self.take(")").then_some(map);
            }
        }
        Some(map)
    }

    /// The rest of a string, up to `quote`.
    fn string(&mut self, quote: &str, escapes: bool) -> Option<String> {
        if !escapes {
            return self.until(quote).map(str::to_owned);
        }
        let mut text = String::new();
        // UTF-16, as JSON writes characters above U+FFFF.
        let mut high = None;
        loop {
            let at = self.rest.find(['\\', quote.chars().next()?])?;
            if at > 0 {
                high = None;
            }
            text.push_str(&self.rest[..at]);
            let mut rest = self.rest[at..].chars();
            if rest.next() != Some('\\') {
                self.rest = rest.as_str();
                return Some(text);
            }
            let letter = rest.next()?;
            self.rest = rest.as_str();
            let digits = match letter {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            if digits == 0 {
                text.push_str(match letter {
                    'n' => "\n",
                    'r' => "\r",
                    't' => "\t",
                    'b' => "\u{8}",
                    'f' => "\u{c}",
                    '0' => "\0",
                    '\\' | '\'' | '"' | '/' => "",
                    // Python keeps the backslash of what it does not know.
                    _ => "\\",
                });
                if !matches!(letter, 'n' | 'r' | 't' | 'b' | 'f' | '0') {
                    text.push(letter);
                }
                continue;
            }
            let code = u32::from_str_radix(self.rest.get(..digits)?, 16).ok()?;
            self.rest = &self.rest[digits..];
            match (code, high.take()) {
                (0xD800..=0xDBFF, _) => high = Some(code),
                (0xDC00..=0xDFFF, Some(high)) => {
                    text.push(char::from_u32(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00))?);
                }
                _ => text.push(char::from_u32(code)?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_python() {
        let text =
            r#"{'a': [1, -2.5, 1e3, True, None], "b'": 'it\'s\n\x41\u00e9 \ud83d\ude00 \d', 'c': {}, 'd': (1,)} x"#;
        let mut reader = Reader::python(text);
        let expected = json!({"a": [1, -2.5, 1e3, true, null], "b'": "it's\nAé 😀 \\d", "c": {}, "d": [1]});
        assert_eq!(reader.value(), Some(expected));
        assert!(reader.take("x") && reader.at_end());
        for broken in ["[1", "{'a' 1}", "'a", "[1 2]", "nope", "{1: 2}", "'\\u12'"] {
            assert_eq!(Reader::python(broken).value(), None, "{broken}");
        }
        assert_eq!(Reader::python(&"[".repeat(1 << 20)).value(), None);
    }

    #[test]
    fn values_of_gemma() {
        let text = r#"{a:<|"|>x "y", {z}<|"|>,b:[1,true,null],c:{d:<|"|><|"|>},e:{}}"#;
        let expected = json!({"a": "x \"y\", {z}", "b": [1, true, null], "c": {"d": ""}, "e": {}});
        assert_eq!(Reader::gemma(text).value(), Some(expected));
    }
}
