//! The older form, little-endian: an i32 count of entries; of each an i32 length and a name, an i32 number of calls, an i32
//! count and that many f32, means of squares times the calls. Then, where the writer was not too old, an i32 number of
//! pieces, an i32 length and the text's name.

use std::collections::BTreeMap;
use std::path::Path;

use kernels::DType;
use kernels::plan::Bytes;

use super::{Entry, Form, Imatrix, wrong};
use crate::gguf::cursor::Cursor;
use crate::{FormatError, sniff};

/// Entries that a file may have, far above what models have.
const MAX_ENTRIES: usize = 1 << 20;
/// Bytes of an entry's three numbers and one value.
const MIN_ENTRY_BYTES: usize = 4 * 4;
const MAX_NAME: u32 = 1_024;

pub fn parse(bytes: &Bytes, path: &Path) -> Result<Imatrix, FormatError> {
    let mut cursor = Cursor::new(bytes, path);
    // A file of another kind has no plausible count, where a short one would do.
    let count = cursor.u32().map_or(0, |n| n as usize);
    if count == 0 || count > MAX_ENTRIES.min(bytes.len() / MIN_ENTRY_BYTES) {
        let guess = sniff::guess(bytes);
        let (expected, found) = ("an importance matrix", guess.found);
        return Err(FormatError::Kind { path: path.to_owned(), expected, found, hint: guess.hint });
    }
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        cursor.within = "entries";
        let name = text(&mut cursor, MAX_NAME)?;
        cursor.within = name;
        let calls = cursor.u32()?.cast_signed();
        let start = cursor.position();
        let values = cursor.u32()?.cast_signed();
        let Some(values) = u64::try_from(values).ok().filter(|&n| n > 0) else {
            return Err(cursor.error(start, "a count of at least 1", values.to_string()));
        };
        let start = cursor.position();
        let end = start + cursor.take(values * DType::F32.bytes as u64)?.len();
        let Some(sums) = bytes.slice(start..end) else { break };
        // What was never divided by calls needs no division.
        let counts = vec![calls.max(1) as f32];
        if entries.insert(name.to_owned(), Entry::new(path, name, sums, counts)?).is_some() {
            return Err(wrong(path, name, "a name used once", "another entry of that name".to_owned()));
        }
    }
    cursor.within = "the text's name";
    let left = |cursor: &Cursor| bytes.len() > cursor.position();
    let chunks = if left(&cursor) { cursor.u32()?.cast_signed().max(0).cast_unsigned() } else { 0 };
    let dataset = if left(&cursor) { text(&mut cursor, u32::MAX)? } else { "" };
    let datasets = Some(dataset.to_owned()).filter(|name| !name.is_empty()).into_iter().collect();
    Ok(Imatrix {
        path: path.to_owned(),
        form: Form::Legacy,
        datasets,
        chunks,
        chunk_size: None,
        entries,
        products: BTreeMap::new(),
        same_inputs: BTreeMap::new(),
    })
}

/// A length and so many bytes of UTF-8, at most `limit`.
fn text<'a>(cursor: &mut Cursor<'a>, limit: u32) -> Result<&'a str, FormatError> {
    let start = cursor.position();
    let len = cursor.u32()?;
    if len > limit {
        return Err(cursor.error(start, format!("a name of at most {limit} bytes"), format!("{len} bytes")));
    }
    std::str::from_utf8(cursor.take(len.into())?).map_err(|e| cursor.error(start, "a name in UTF-8", e.to_string()))
}
