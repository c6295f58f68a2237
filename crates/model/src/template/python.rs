//! Values as Python writes them: `json.dumps`, and `str` for what `{{ … }}` prints. Texts end with an error at a limit.

use minijinja::value::{Kwargs, ValueKind};
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
}
