//! The header of one safetensors file.

use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

use crate::tensor::{RawType, TensorInfo};
use crate::{FormatError, sniff};

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;
/// Headers are at most this long, by the format's rules.
const MAX_HEADER: u64 = 100_000_000;
const METADATA_KEY: &str = "__metadata__";

/// Parses the header of the file `bytes`: its tensors in the order of their data. `path` is for messages.
///
/// # Errors
/// Anything that breaks the format's rules, data that lies outside the file.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<TensorInfo>, FormatError> {
    let json = header_json(bytes, path)?;
    let entries: Entries =
        serde_json::from_slice(json).map_err(|source| FormatError::Json { path: path.to_owned(), source })?;
    let data = LENGTH_BYTES + json.len();
    let tensors: Result<Vec<_>, _> =
        entries.0.into_iter().map(|(name, entry)| place(name, entry, data, bytes.len(), path)).collect();
    let mut tensors = tensors?;
    tensors.sort_by_key(|t| t.offset);
    Ok(tensors)
}

fn header_json<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a [u8], FormatError> {
    let json = bytes.split_first_chunk::<LENGTH_BYTES>().and_then(|(length, rest)| {
        let length = u64::from_le_bytes(*length);
        let json = rest.get(..usize::try_from(length).ok()?)?;
        (length <= MAX_HEADER && json.starts_with(b"{")).then_some(json)
    });
    json.ok_or_else(|| {
        let guess = sniff::guess(bytes);
        let hint = guess.hint.unwrap_or("the file is incomplete or damaged: get it again");
        FormatError::Kind {
            path: path.to_owned(),
            expected: "a safetensors file",
            found: guess.found,
            hint: Some(hint),
        }
    })
}

/// Turns an entry into a tensor at its place in the file, whose data starts at `data`.
fn place(name: String, entry: Entry, data: usize, file_len: usize, path: &Path) -> Result<TensorInfo, FormatError> {
    let wrong = |expected: String, found: String| FormatError::Tensor {
        path: path.to_owned(),
        tensor: name.clone(),
        expected,
        found,
    };
    let [start, end] = entry.data_offsets;
    let bytes =
        end.checked_sub(start).ok_or_else(|| wrong("ordered data_offsets".to_owned(), format!("{start}, {end}")))?;
    let raw_type = RawType::Safetensors(entry.dtype);
    let elements = entry.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    let elements =
        elements.ok_or_else(|| wrong("a shape that can be counted".to_owned(), format!("{:?}", entry.shape)))?;
    if let Some(dtype) = raw_type.dtype()
        && elements.checked_mul(dtype.bytes) != Some(bytes)
    {
        return Err(wrong(format!("data of {dtype} in shape {:?}", entry.shape), format!("{bytes} bytes")));
    }
    match (data.checked_add(start), data.checked_add(end)) {
        (Some(offset), Some(end)) if end <= file_len => {
            Ok(TensorInfo { name, raw_type, shape: entry.shape, bytes, file: 0, offset })
        }
        _ => Err(wrong(format!("data up to byte {} of the header's end", end), format!("a file of {file_len} bytes"))),
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The header's tensors in its order, each name once.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map.next_value().map_err(|e| de::Error::custom(format!("tensor {name}: {e}")))?;
            entries.push((name, entry));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header and `data` bytes of zeros.
    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
    }

    fn parse_header(header: &str, data: usize) -> Result<Vec<TensorInfo>, FormatError> {
        parse(&file(header, data), Path::new("model.safetensors"))
    }

    #[test]
    fn tensors_come_in_data_order() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},
            "a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#;
        let tensors = parse_header(header, 12).unwrap();
        let found: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.offset - 8 - header.len(), t.bytes)).collect();
        assert_eq!(found, [("a", 0, 8), ("b", 8, 4)]);
        assert_eq!(tensors[0].dtype(), None);
        assert_eq!(tensors[1].dtype(), Some(kernels::DType::F16));
    }

    #[test]
    fn broken_headers_are_errors() {
        let cases = [
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[8,4]}}"#,
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]}}"#,
            r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,8]}}"#,
            r#"{"a":{"dtype":"U8","shape":[8]}}"#,
            r#"{"a":3}"#,
            r#"{"a":"#,
            "[]",
        ];
        for header in cases {
            assert!(parse_header(header, 8).is_err(), "{header}");
        }
        assert!(parse(&[1, 2, 3], Path::new("f")).is_err());
        assert!(parse(&u64::MAX.to_le_bytes(), Path::new("f")).is_err());
    }
}
