//! The weights of a Hugging Face folder: one file, or shards that an index lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::header;
use crate::hf::read_json;
use crate::tensor::{TensorInfo, TensorTable};
use crate::{FormatError, MappedFile};

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    /// From each tensor's name to the name of its file.
    weight_map: BTreeMap<String, String>,
}

/// How the header of one file is read.
type Parse = fn(&[u8], &Path) -> Result<Vec<TensorInfo>, FormatError>;

/// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
///
/// # Errors
/// As [`open_weights`].
pub(crate) fn open(folder: &Path) -> Result<TensorTable, FormatError> {
    open_weights(folder, SINGLE_FILE, INDEX_FILE, header::parse)
}

/// Opens all weights of `folder`: the files that the index names, in order of their names, else the single file.
///
/// # Errors
/// No weights, a header that breaks the rules, an index that names files outside the folder or tensors that its files
/// lack, tensors with the same name.
pub(crate) fn open_weights(folder: &Path, single: &str, index: &str, parse: Parse) -> Result<TensorTable, FormatError> {
    let index_path = folder.join(index);
    if !index_path.exists() {
        return open_files(folder, [single], parse);
    }
    let index: Index = read_json(&index_path)?;
    let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let mismatch = |expected: String, found: String| FormatError::Mismatch {
        path: index_path.clone(),
        expected,
        found,
        hint: Some("get all files of this model again"),
    };
    if names.is_empty() {
        return Err(mismatch("tensors in the weight_map".to_owned(), "none".to_owned()));
    }
    if let Some(name) = names.iter().find(|name| !is_file_name(name)) {
        return Err(mismatch("names of files in the same folder".to_owned(), format!("{name:?}")));
    }
    let table = open_files(folder, names, parse)?;
    for (tensor, file) in &index.weight_map {
        let holder = table.info(tensor).and_then(|info| table.files[info.file].path().file_name());
        if holder.is_none_or(|holder| holder != file.as_str()) {
            return Err(mismatch(format!("tensor {tensor} in {file}"), "a file without it".to_owned()));
        }
    }
    Ok(table)
}

fn open_files<'a>(
    folder: &Path,
    names: impl IntoIterator<Item = &'a str>,
    parse: Parse,
) -> Result<TensorTable, FormatError> {
    let (mut files, mut tensors) = (Vec::new(), Vec::new());
    for name in names {
        let path = folder.join(name);
        let file = MappedFile::open(&path)?;
        tensors.extend(parse(&file.bytes(), &path)?.into_iter().map(|mut tensor| {
            tensor.file = files.len();
            tensor
        }));
        files.push(file);
    }
    TensorTable::new(files, tensors)
}

/// Whether `name` is one plain name, so that it stays in its folder.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert!(is_file_name("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../model.safetensors", "/etc/passwd", "a/b", "a/"] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
