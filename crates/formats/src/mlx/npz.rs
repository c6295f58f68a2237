//! Weights in NumPy's archives, which the first MLX folders have: a zip archive with a member `NAME.npy` for each tensor,
//! never compressed. An array is a header, a dictionary in Python's notation, and the values.

use std::path::Path;

use crate::safetensors::open_weights;
use crate::tensor::{RawType, TensorInfo, TensorTable};
use crate::zip::{Archive, Wrong};
use crate::{FormatError, sniff};

pub(crate) const NPZ_FILE: &str = "weights.npz";
/// No folder of such weights has one.
const INDEX_FILE: &str = "weights.npz.index.json";
const MAGIC: &[u8] = b"\x93NUMPY";
/// Types by NumPy's names: as safetensors call them, and the bytes of a value. MLX writes BF16 as bytes without a type.
const TYPES: [(&str, &str, usize); 6] =
    [("<f4", "F32", 4), ("<f2", "F16", 2), ("|V2", "BF16", 2), ("<V2", "BF16", 2), ("<u4", "U32", 4), ("|u1", "U8", 1)];

/// Opens the weights of `folder`.
///
/// # Errors
/// As [`parse`].
pub(crate) fn open(folder: &Path) -> Result<TensorTable, FormatError> {
    open_weights(folder, NPZ_FILE, INDEX_FILE, parse)
}

/// Parses the file `bytes`: its tensors by name. `path` is for messages.
///
/// # Errors
/// No archive of arrays, or compressed ones; arrays of other types, or in columns; values outside the file.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<TensorInfo>, FormatError> {
    if !bytes.starts_with(b"PK\x03\x04") {
        let guess = sniff::guess(bytes);
        return Err(FormatError::Kind {
            path: path.to_owned(),
            expected: "an archive of NumPy arrays",
            found: guess.found,
            hint: guess.hint,
        });
    }
    let damaged = |part: &str, wrong: Wrong| FormatError::Damaged {
        path: path.to_owned(),
        offset: wrong.offset as u64,
        part: part.to_owned(),
        expected: wrong.expected.to_owned(),
        found: wrong.found,
        hint: None,
    };
    let archive = Archive::open(bytes).map_err(|wrong| damaged("archive", wrong))?;
    let mut names: Vec<&str> = archive.names().collect();
    names.sort_unstable();
    let mut infos = Vec::with_capacity(names.len());
    for member in names {
        let part = |wrong| damaged(member, wrong);
        let place = archive.find(member).map_err(part)?.unwrap_or_default();
        let name = member
            .strip_suffix(".npy")
            .ok_or_else(|| part(Wrong::new(place.start, "arrays, whose names end in .npy", format!("{member:?}"))))?;
        let array = array(&bytes[place.clone()], place.start).map_err(part)?;
        infos.push(TensorInfo { name: name.to_owned(), ..array });
    }
    Ok(infos)
}

/// The array in `bytes`, which begin at `start` of the file; without a name.
fn array(bytes: &[u8], start: usize) -> Result<TensorInfo, Wrong> {
    let wrong = |at: usize, expected: &'static str, found: &str| Wrong::new(start + at, expected, found);
    let version = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first()).copied();
    let (length, header) = match (version, bytes.get(8..12)) {
        (Some(1), Some(length)) => (usize::from(length[0]) | usize::from(length[1]) << 8, 10usize),
        (Some(2 | 3), Some(length)) => (u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize, 12),
        _ => return Err(wrong(0, "a NumPy array of version 1 to 3", "other bytes")),
    };
    let text = header.checked_add(length).and_then(|end| bytes.get(header..end));
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or_else(|| wrong(header, "the array's header in UTF-8", "other bytes"))?;
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let quoted = value("descr").and_then(|rest| rest.strip_prefix('\'')?.split_once('\'')).map(|(name, _)| name);
    let known = quoted.and_then(|quoted| TYPES.iter().find(|row| row.0 == quoted));
    let Some((_, name, width)) = known else {
        return Err(wrong(header, "values of type F32, F16, BF16, U32 or U8", quoted.unwrap_or("none")));
    };
    let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(shape, _)| shape);
    let sizes = shape.map(|shape| shape.split(',').map(str::trim).filter(|size| !size.is_empty()));
    let shape: Option<Vec<usize>> = sizes.and_then(|sizes| sizes.map(|size| size.parse().ok()).collect());
    let shape = shape.ok_or_else(|| wrong(header, "the array's shape", text))?;
    // Of one dimension there is one order.
    let by_rows = value("fortran_order").is_some_and(|rest| rest.starts_with("False"));
    if !by_rows && shape.iter().filter(|size| **size > 1).count() > 1 {
        return Err(wrong(header, "rows that follow one another", "columns"));
    }
    let size = shape.iter().try_fold(*width, |n, size| n.checked_mul(*size));
    let data = header + length;
    match size {
        Some(size) if size == bytes.len() - data => Ok(TensorInfo {
            name: String::new(),
            raw_type: RawType::Safetensors((*name).to_owned()),
            shape,
            bytes: size,
            file: 0,
            offset: start + data,
        }),
        _ => Err(wrong(data, "as many values as the array's shape says", &format!("{} bytes", bytes.len() - data))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numpy(header: &str, data: usize) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), &vec![0; data]].concat()
    }

    #[test]
    fn headers_are_read_and_wrong_ones_refused() {
        let either = array(&numpy("{'descr': '<f2', 'fortran_order': True, 'shape': (1, 6), }\n", 12), 0).unwrap();
        assert_eq!(either.shape, [1, 6]);
        let found = array(&numpy("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }\n", 12), 100).unwrap();
        assert_eq!((found.shape, found.raw_type.to_string().as_str(), found.bytes), (vec![3, 2], "F16", 12));
        let vector = array(&numpy("{'descr': '<u4', 'fortran_order': False, 'shape': (2,), }\n", 8), 0).unwrap();
        assert_eq!(vector.shape, [2]);
        let wrong = [
            ("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }", 11),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", 8),
            ("{'descr': '<f2', 'fortran_order': True, 'shape': (3, 2), }", 12),
            ("{'descr': '<f2', 'fortran_order': False, 'shape': (3, x), }", 12),
            ("{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999, 99999999999), }", 12),
            ("{}", 0),
            ("", 0),
        ];
        for (header, data) in wrong {
            assert!(array(&numpy(header, data), 0).is_err(), "{header}");
        }
        for end in 0..12 {
            assert!(array(&numpy("{}", 0)[..end.min(10)], 0).is_err());
        }
    }
}
