//! The tensors of one file.

use std::path::Path;

use super::pickle;
use crate::tensor::{RawType, TensorInfo};
use crate::zip::{Archive, Wrong};
use crate::{FormatError, sniff};

/// Pickles of models have kilobytes.
const MAX_PICKLE: usize = 64 << 20;
const PICKLE: &str = "/data.pkl";

/// Parses the file `bytes`: its tensors in the order of the dictionary. `path` is for messages.
///
/// # Errors
/// No archive of `torch.save`; a pickle that does more than describe tensors in F32, F16 or BF16; tensors that lie outside
/// their storage, or whose values do not follow one another in it.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<TensorInfo>, FormatError> {
    if !bytes.starts_with(b"PK\x03\x04") {
        let guess = sniff::guess(bytes);
        let old = matches!(bytes, [0x80, 2, ..]);
        let hint =
            if old { Some("save it again with a PyTorch of 2020 or later, or as safetensors") } else { guess.hint };
        return Err(FormatError::Kind {
            path: path.to_owned(),
            expected: "weights of PyTorch",
            found: guess.found,
            hint,
        });
    }
    let damaged = |part: &str, start: usize, wrong: Wrong| FormatError::Damaged {
        path: path.to_owned(),
        offset: (start + wrong.offset) as u64,
        part: part.to_owned(),
        expected: wrong.expected.to_owned(),
        found: wrong.found,
        hint: Some("only plain state dictionaries are read; saving the model as safetensors always helps"),
    };
    let in_archive = |wrong| damaged("archive", 0, wrong);
    let archive = Archive::open(bytes).map_err(in_archive)?;
    // The folder's name is that of the file as it was saved.
    let folder = archive.names().filter_map(|name| name.strip_suffix(PICKLE)).find(|folder| !folder.contains('/'));
    let folder = folder.ok_or_else(|| in_archive(Wrong::new(0, "a member FOLDER/data.pkl", "none")))?;
    let member = |name: &str| archive.find(&format!("{folder}/{name}")).map_err(in_archive);
    if let Some(order) = member("byteorder")?
        && &bytes[order.clone()] != b"little"
    {
        return Err(in_archive(Wrong::new(order.start, "values in little-endian order", "another order")));
    }
    let place = member("data.pkl")?.unwrap_or_default();
    if place.len() > MAX_PICKLE {
        return Err(in_archive(Wrong::new(place.start, "a pickle of at most 64 MiB", place.len().to_string())));
    }
    let described = pickle::tensors(&bytes[place.clone()]).map_err(|wrong| damaged("data.pkl", place.start, wrong))?;

    let mut infos = Vec::with_capacity(described.len());
    for (name, tensor) in described {
        let wrong = |expected: &str, found: String| FormatError::Tensor {
            path: path.to_owned(),
            tensor: name.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let storage = member(&format!("data/{}", tensor.storage.key))?;
        let storage =
            storage.ok_or_else(|| wrong("a storage in the archive", format!("no data/{}", tensor.storage.key)))?;
        let raw_type = RawType::Safetensors(tensor.storage.dtype.to_owned());
        let width = raw_type.dtype().map_or(1, |dtype| dtype.bytes);
        let sizes = || format!("shape {:?}, strides {:?}, offset {}", tensor.shape, tensor.stride, tensor.offset);
        let shape = contiguous(&tensor).ok_or_else(|| wrong("values that follow one another", sizes()))?;
        let bytes = shape.iter().try_fold(width, |n, &size| n.checked_mul(size));
        let start = usize::try_from(tensor.offset).ok().and_then(|offset| offset.checked_mul(width));
        let fits =
            bytes.zip(start).filter(|(bytes, start)| start.checked_add(*bytes).is_some_and(|end| end <= storage.len()));
        let (bytes, start) =
            fits.ok_or_else(|| wrong("values inside the storage", format!("{} of {} bytes", sizes(), storage.len())))?;
        infos.push(TensorInfo {
            name: name.to_owned(),
            raw_type,
            shape,
            bytes,
            file: 0,
            offset: storage.start + start,
        });
    }
    Ok(infos)
}

/// The shape, if the values lie row-major without gaps. The stride of a dimension of one value means nothing.
fn contiguous(tensor: &pickle::Tensor) -> Option<Vec<usize>> {
    let shape: Vec<usize> = tensor.shape.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    if tensor.stride.len() != shape.len() {
        return None;
    }
    let mut expected = 1usize;
    for (&size, &stride) in shape.iter().zip(&tensor.stride).rev() {
        if size != 1 && usize::try_from(stride).ok()? != expected {
            return None;
        }
        expected = expected.checked_mul(size)?;
    }
    Some(shape)
}
