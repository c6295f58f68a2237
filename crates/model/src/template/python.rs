//! Values as Python writes them: `json.dumps`, and `str` for what `{{ … }}` prints. Texts end with an error at a limit.

use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::Exceeded;

/// How `json.dumps` lays out its result.
struct Layout {
    ensure_ascii: bool,
    sort_keys: bool,
    /// One level of indentation; `None` puts everything on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    /// Bytes, about.
    limit: usize,
}

/// The filter `tojson`, with the keywords and defaults that transformers gives it.
pub(super) fn tojson(value: &Value, kwargs: Kwargs, limit: usize) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none());
    let indent = match indent {
        None => None,
        Some(text) if text.kind() == ValueKind::String => Some(text.to_string()),
        Some(count) => Some(" ".repeat(usize::try_from(count)?.min(64))),
    };
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are a pair of strings")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let flag = |name| Ok::<_, Error>(kwargs.get::<Option<bool>>(name)?.unwrap_or(false));
    let (ensure_ascii, sort_keys) = (flag("ensure_ascii")?, flag("sort_keys")?);
    kwargs.assert_all_used()?;
    let layout = Layout { ensure_ascii, sort_keys, indent, item_separator, key_separator, limit };
    let mut out = String::new();
    write_json(value, &layout, 0, &mut out)?;
    Ok(Value::from(out))
}

fn write_json(value: &Value, layout: &Layout, depth: usize, out: &mut String) -> Result<(), Error> {
    check(out, layout.limit)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value, ["Infinity", "-Infinity", "NaN"])),
        ValueKind::String => write_json_string(value.as_str().unwrap_or_default(), layout.ensure_ascii, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(['[', ']'], items.len(), layout, depth, out, |at, out| {
                write_json(&items[at], layout, depth + 1, out)
            })?;
        }
        ValueKind::Map => {
            let mut items = pairs(value)?;
            if layout.sort_keys {
                items.sort_by_key(|(key, _)| key.to_string());
            }
            write_items(['{', '}'], items.len(), layout, depth, out, |at, out| {
                let (key, item) = &items[at];
                // Keys that are no strings are written as JSON would write their value.
                let text = match key.kind() {
                    ValueKind::String => key.to_string(),
                    _ => {
                        let mut text = String::new();
                        write_json(key, layout, depth, &mut text)?;
                        text
                    }
                };
                write_json_string(&text, layout.ensure_ascii, out);
                out.push_str(&layout.key_separator);
                write_json(item, layout, depth + 1, out)
            })?;
        }
        kind => return Err(Error::new(ErrorKind::BadSerialization, format!("tojson: {kind} is not JSON"))),
    }
    Ok(())
}

fn pairs(map: &Value) -> Result<Vec<(Value, Value)>, Error> {
    map.try_iter()?.map(|key| Ok((key.clone(), map.get_item(&key)?))).collect()
}

fn write_items(
    [open, close]: [char; 2],
    count: usize,
    layout: &Layout,
    depth: usize,
    out: &mut String,
    write_item: impl Fn(usize, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize, out: &mut String| {
        if let Some(indent) = &layout.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(open);
    for at in 0..count {
        if at > 0 {
            out.push_str(&layout.item_separator);
        }
        new_line(depth + 1, out);
        write_item(at, out)?;
    }
    if count > 0 {
        new_line(depth, out);
    }
    out.push(close);
    Ok(())
}

fn write_json_string(text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control @ '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other if ensure_ascii && !(' '..='~').contains(&other) => {
                let mut units = [0; 2];
                other.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A number as `repr` writes it. `special` is how infinity, its negative and not-a-number are written.
fn number(value: &Value, special: [&str; 3]) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return special[2].to_owned();
    }
    if float.is_infinite() {
        return special[usize::from(float < 0.0)].to_owned();
    }
    // `Debug` has the shortest digits and the range of plain notation in common with Python, not the exponent's form.
    let shortest = format!("{float:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |positive| ('-', positive));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// What `str` gives: strings as they are, everything else as `repr`.
pub(super) fn str(value: &Value, limit: usize) -> Result<String, Error> {
    let mut out = String::new();
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Number => write_repr(value, limit, &mut out)?,
        _ => out = value.to_string(),
    }
    Ok(out)
}

fn check(out: &str, limit: usize) -> Result<(), Error> {
    if out.len() > limit { Err(Exceeded::Bytes.into()) } else { Ok(()) }
}

fn write_repr(value: &Value, limit: usize, out: &mut String) -> Result<(), Error> {
    check(out, limit)?;
    match value.kind() {
        ValueKind::String => write_string_repr(value.as_str().unwrap_or_default(), out),
        ValueKind::Number => out.push_str(&number(value, ["inf", "-inf", "nan"])),
        ValueKind::Seq => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                write_repr(&item, limit, out)?;
                count += 1;
            }
            out.push_str(match (tuple, count) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (at, (key, item)) in pairs(value)?.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_repr(key, limit, out)?;
                out.push_str(": ");
                write_repr(item, limit, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn write_string_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            quoted if quoted == quote => out.extend(['\\', quoted]),
            control if u32::from(control) < 0x100 && control.is_control() || control == '\u{ad}' => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push(quote);
}

/// Text as it stands in HTML, as `markupsafe` writes it.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// The filter `indent`: a line more than there is, and without the end of the last one.
pub(super) fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    keywords: Kwargs,
) -> Result<String, Error> {
    let flag = |given: Option<bool>, name| Ok::<_, Error>(given.or(keywords.get(name)?).unwrap_or(false));
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    let width = match width {
        Some(width) => Some(width),
        None => keywords.get::<Option<Value>>("width")?,
    };
    keywords.assert_all_used()?;
    let indention = match &width {
        None => "    ".to_owned(),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(width.as_usize().unwrap_or(0)),
        },
    };
    let mut out = String::new();
    for (at, line) in lines(&format!("{text}\n")).into_iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let indents = if at == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if indents { &indention } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

/// What `splitlines` gives.
fn lines(text: &str) -> Vec<&str> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ENDS) {
        let (line, end) = rest.split_at(at);
        lines.push(line);
        let end_length = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(0, char::len_utf8) };
        rest = &end[end_length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// `value[start:stop:step]` of a text or a list; undefined for what has no parts.
pub(super) fn slice(value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let invalid = |what: &'static str| Error::new(ErrorKind::InvalidOperation, what);
    let number = |bound: &Value| match bound.is_none() {
        true => Ok(None),
        false => i64::try_from(bound.clone()).map(Some).map_err(|_| invalid("parts begin and end at whole numbers")),
    };
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?.unwrap_or(1));
    if step == 0 {
        return Err(invalid("the step from item to item is 0"));
    }
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        return Ok(Value::from(
            places(characters.len(), start, stop, step).map(|at| characters[at]).collect::<String>(),
        ));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(Value::UNDEFINED);
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let part: Vec<Value> = places(items.len(), start, stop, step).map(|at| items[at].clone()).collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(part)) } else { Value::from(part) })
}

/// The places that a slice of a list of `length` items takes, in order.
fn places(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = length as i64;
    // Backwards, the place before the first stands for the end.
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |bound: Option<i64>, default: i64| match bound {
        Some(bound) if bound < 0 => bound.saturating_add(length).clamp(lowest, highest),
        Some(bound) => bound.clamp(lowest, highest),
        None => default,
    };
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (start, stop) = (place(start, first), place(stop, last));
    std::iter::successors(Some(start), move |at| at.checked_add(step))
        .take_while(move |&at| if step > 0 { at < stop } else { at > stop })
        .map(|at| at as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-300, "-2.5e-300"),
            (-0.0, "-0.0"),
        ];
        for (float, expected) in cases {
            assert_eq!(number(&Value::from(float), [""; 3]), expected);
        }
    }

    #[test]
    fn slices_are_those_of_python() {
        let list = Value::from(vec![0, 1, 2, 3, 4]);
        let bounds = [None, Some(0), Some(2), Some(-2), Some(9), Some(-9)]
            .map(|bound: Option<i64>| bound.map_or(Value::from(()), Value::from));
        let mut found = String::new();
        for step in [1, 2, -1, -3] {
            for (start, stop) in bounds.iter().flat_map(|start| bounds.iter().map(move |stop| (start, stop))) {
                found += &str(&slice(&list, start, stop, &Value::from(step)).unwrap(), 1 << 20).unwrap();
            }
        }
        // The length and a checksum of what Python writes for these 144.
        let sum: u64 = found.bytes().zip(1..).map(|(byte, at)| u64::from(byte) * at).sum();
        assert_eq!((found.len(), sum), (663, 14718353));
        let empty = Value::from(Vec::<i64>::new());
        assert_eq!(slice(&empty, &Value::from(()), &Value::from(()), &Value::from(-1)).unwrap().to_string(), "[]");
    }
}
