//! What a rendering may use.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::python;

/// Values inside values that a variable may hold; JSON in a conversation nests 128 deep at most.
const MAX_DEPTH: usize = 256;
/// Items that a repeated list may have.
const MAX_ITEMS: usize = 1 << 18;
/// Bytes that an item of a new list is counted as, and that a value is which a variable holds, with its place in a list or map.
const ITEM_BYTES: u64 = 16;
const VALUE_BYTES: u64 = 64;
/// Digits of a width in a format string.
const MAX_WIDTH_DIGITS: usize = 3;
/// A rendering takes milliseconds.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Counts what a rendering makes: every text that it writes, joins, cuts or converts, and every list. Nothing is given back,
/// so that memory and time are bounded alike.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    /// Values that all looks at variables may visit.
    most_visits: u64,
    used: AtomicU64,
    visits: AtomicU64,
    start: Instant,
}

/// Why a rendering was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("too many bytes")]
    Bytes,
    #[error("too much time")]
    Time,
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Error::new(ErrorKind::InvalidOperation, exceeded.to_string()).with_source(exceeded)
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// The operation `sign` on numbers: exact where both are whole.
fn numbers(
    sign: char,
    left: &Value,
    right: &Value,
    whole: impl Fn(i128, i128) -> Option<i128>,
    float: impl Fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    let is_whole = |value: &Value| value.is_integer() || value.kind() == ValueKind::Bool;
    if is_whole(left) && is_whole(right) {
        let result = whole(i128::try_from(left.clone())?, i128::try_from(right.clone())?);
        let result = result.ok_or_else(|| invalid("the result is too large"))?;
        return Ok(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from));
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(a), Ok(b)) => Ok(Value::from(float(a, b))),
        _ => {
            let found = format!("expected values that {sign} takes, found {} and {}", left.kind(), right.kind());
            Err(Error::new(ErrorKind::InvalidOperation, found))
        }
    }
}

impl Budget {
    /// `limit` in bytes; `most_visits`, how many values all looks at variables may visit.
    pub fn new(limit: usize, most_visits: u64) -> Self {
        let (used, visits) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limit: limit as u64, most_visits, used, visits, start: Instant::now() }
    }

    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    fn check(&self, bytes: u64) -> Result<(), Error> {
        if self.start.elapsed() > MAX_TIME {
            return Err(Exceeded::Time.into());
        }
        if self.used.load(Relaxed).saturating_add(bytes) > self.limit { Err(Exceeded::Bytes.into()) } else { Ok(()) }
    }

    /// Takes this many bytes.
    pub fn charge(&self, bytes: usize) -> Result<(), Error> {
        self.check(bytes as u64)?;
        self.used.fetch_add(bytes as u64, Relaxed);
        Ok(())
    }

    /// A value that was just made. It holds no more than the limit, each item counted as often as it holds it.
    pub fn made(&self, value: &Value) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            return self.charge(text.len());
        }
        if value.as_object().is_none() {
            return self.check(0);
        }
        self.charge(value.len().unwrap_or(0).saturating_mul(ITEM_BYTES as usize))?;
        self.kept(value, false)
    }

    /// A value that a variable is to keep, or, with `inside`, that an attribute of a namespace is.
    pub fn kept(&self, value: &Value, inside: bool) -> Result<(), Error> {
        self.check(0)?;
        let (mut bytes, mut visits) = (0, 0);
        let result = self.walk(value, usize::from(inside), &mut bytes, &mut visits);
        self.visits.fetch_add(visits, Relaxed);
        result
    }

    fn walk(&self, value: &Value, depth: usize, bytes: &mut u64, visits: &mut u64) -> Result<(), Error> {
        *visits += 1;
        *bytes += value.as_str().map_or(VALUE_BYTES, |text| text.len() as u64);
        if *bytes > self.limit || self.visits.load(Relaxed) + *visits > self.most_visits {
            return Err(Exceeded::Bytes.into());
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        if depth > 0 && object.type_name().ends_with("::Namespace") {
            return Err(invalid("a namespace inside another value is not supported"));
        }
        if depth == MAX_DEPTH {
            return Err(invalid("values inside values are nested too deep"));
        }
        // What does not know its length makes its items when it is asked for them.
        let walks = matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable);
        if !walks || value.len().is_none() {
            return Ok(());
        }
        for item in value.try_iter()? {
            if value.kind() == ValueKind::Map {
                self.walk(&value.get_item(&item)?, depth + 1, bytes, visits)?;
            }
            self.walk(&item, depth + 1, bytes, visits)?;
        }
        Ok(())
    }

    /// The operator `~`.
    pub fn concatenate(&self, left: &Value, right: &Value) -> Result<Value, Error> {
        let bytes = [left, right].map(|value| value.as_str().map_or(0, str::len));
        self.check(bytes[0].saturating_add(bytes[1]) as u64)?;
        let mut text = python::str(left, self.limit())?;
        text.push_str(&python::str(right, self.limit())?);
        self.charge(text.len())?;
        Ok(Value::from(text))
    }

    /// The operator `*`: of numbers, or of a text or a list and a number.
    pub fn multiply(&self, left: &Value, right: &Value) -> Result<Value, Error> {
        let repeated = [(left, right), (right, left)].into_iter().find(|(value, _)| {
            value.as_str().is_some() || (value.as_object().is_some() && value.kind() != ValueKind::Map)
        });
        if let Some((value, count)) = repeated {
            let count = count.as_usize().ok_or_else(|| invalid("only whole numbers repeat a text or a list"))?;
            if let Some(text) = value.as_str() {
                self.check(text.len().saturating_mul(count) as u64)?;
                return Ok(Value::from(text.repeat(count)));
            }
            let items: Vec<Value> = value.try_iter()?.take(MAX_ITEMS).collect();
            let total = items.len().saturating_mul(count);
            if total > MAX_ITEMS {
                return Err(Exceeded::Bytes.into());
            }
            return Ok(Value::from_iter(items.iter().cycle().take(total).cloned()));
        }
        numbers('*', left, right, i128::checked_mul, |a, b| a * b)
    }

    /// The operator `+`: of numbers, of two texts, or of two lists. The engine's own would make lists of lists of lists.
    pub fn add(&self, left: &Value, right: &Value) -> Result<Value, Error> {
        if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
            self.check((a.len() + b.len()) as u64)?;
            // Text that a template calls safe escapes what is added to it.
            return Ok(match (left.is_safe(), right.is_safe()) {
                (false, false) => Value::from([a, b].concat()),
                (true, true) => Value::from_safe_string([a, b].concat()),
                (true, false) => Value::from_safe_string([a, &python::escape(b)].concat()),
                (false, true) => Value::from_safe_string([&python::escape(a), b].concat()),
            });
        }
        let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
        if !(is_list(left) && is_list(right)) {
            return numbers('+', left, right, i128::checked_add, |a, b| a + b);
        }
        if left.is_tuple() != right.is_tuple() {
            return Err(invalid("a tuple and a list cannot be added"));
        }
        let items = left.try_iter()?.chain(right.try_iter()?).take(MAX_ITEMS + 1).collect::<Vec<_>>();
        if items.len() > MAX_ITEMS {
            return Err(Exceeded::Bytes.into());
        }
        Ok(if left.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
    }

    /// Refuses a call of the filter or method `name` of a text or list that would give far more than it takes.
    pub fn call(&self, name: &str, value: &Value, arguments: &[Value]) -> Result<(), Error> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let whole = value.as_str().unwrap_or_default();
        let bytes = match name {
            "replace" => {
                let (old, new) = (text(arguments.first()), text(arguments.get(1)));
                whole.matches(&*old).count().saturating_mul(new.len())
            }
            // The method belongs to what stands between the items.
            "join" => {
                let (between, items) = match value.as_str() {
                    Some(between) if !arguments.is_empty() => (between.len(), arguments.first()),
                    _ => (text(arguments.first()).len(), Some(value)),
                };
                let items = items.and_then(|items| items.try_iter().ok());
                let (mut bytes, mut visits) = (0, 0);
                for item in items.into_iter().flatten() {
                    bytes += between as u64;
                    self.walk(&item, 0, &mut bytes, &mut visits)?;
                }
                self.visits.fetch_add(visits, Relaxed);
                bytes as usize
            }
            "format" => {
                let longest = whole.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
                if longest > Some(MAX_WIDTH_DIGITS) || whole.contains('*') {
                    return Err(invalid("format: widths above 999 are not supported"));
                }
                whole.len()
            }
            "indent" => {
                let keywords = arguments.last().filter(|last| last.kind() == ValueKind::Map);
                let keywords = keywords.and_then(|keywords| keywords.get_attr("width").ok());
                let width = arguments.iter().chain(&keywords).filter_map(Value::as_usize).max().unwrap_or(4);
                whole.lines().count().saturating_mul(width)
            }
            "batch" | "slice" => {
                let count = arguments.iter().filter_map(Value::as_usize).max().unwrap_or(0);
                count.saturating_mul(ITEM_BYTES as usize)
            }
            _ => 0,
        };
        self.check(bytes as u64)
    }
}
