//! A GGUF checkpoint in one file or several: `NAME-00001-of-00003.gguf`.
//!
//! Each shard's header says which it is (`split.no`, from 0), how many there are (`split.count`) and how many tensors all
//! of them hold (`split.tensors.count`). The metadata is the first shard's.

use std::path::{Path, PathBuf};

use super::{Header, Metadata};
use crate::tensor::TensorTable;
use crate::{FormatError, MappedFile};

const NO_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// Opens the checkpoint that the file `path` is, or is a shard of.
///
/// # Errors
/// A header that breaks the rules, a shard that is missing or belongs to another set, tensors with the same name.
pub(crate) fn open(path: &Path) -> Result<(Metadata, TensorTable), FormatError> {
    let (file, header) = open_file(path)?;
    let count = header.metadata.get::<u16>(COUNT_KEY)?.unwrap_or(0);
    if count <= 1 {
        let metadata = header.metadata;
        return Ok((metadata, TensorTable::new(vec![file], header.tensors)?));
    }

    let mut files = Vec::new();
    let mut tensors = Vec::new();
    let mut first: Option<Metadata> = None;
    for (no, path) in shard_paths(path, count)?.iter().enumerate() {
        let (file, header) = open_file(path)?;
        check_number(&header.metadata, NO_KEY, no)?;
        check_number(&header.metadata, COUNT_KEY, count.into())?;
        tensors.extend(header.tensors.into_iter().map(|mut tensor| {
            tensor.file = files.len();
            tensor
        }));
        files.push(file);
        first.get_or_insert(header.metadata);
    }
    let metadata = first.unwrap_or(header.metadata);
    check_number(&metadata, TENSORS_KEY, tensors.len())?;
    Ok((metadata, TensorTable::new(files, tensors)?))
}

fn open_file(path: &Path) -> Result<(std::sync::Arc<MappedFile>, Header), FormatError> {
    let file = MappedFile::open(path)?;
    let header = Header::parse(file.bytes(), path)?;
    Ok((file, header))
}

fn check_number(metadata: &Metadata, key: &str, expected: usize) -> Result<(), FormatError> {
    match metadata.require::<usize>(key)? {
        found if found == expected => Ok(()),
        found => Err(FormatError::Mismatch {
            path: metadata.path().to_owned(),
            expected: format!("{key} {expected}"),
            found: found.to_string(),
            hint: Some("the shards are not all of one set: get them again"),
        }),
    }
}

/// The paths of all shards in order, from the path of any of them.
fn shard_paths(path: &Path, count: u16) -> Result<Vec<PathBuf>, FormatError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let prefix = name.and_then(|name| {
        let (head, tail) = name.rsplit_once("-of-")?;
        let (prefix, no) = head.rsplit_once('-')?;
        let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?;
        let of = number(tail.strip_suffix(".gguf")?)?;
        (no.len() == 5 && (1..=of).contains(&number(no)?) && of == u32::from(count)).then_some(prefix)
    });
    let prefix = prefix.ok_or_else(|| FormatError::Mismatch {
        path: path.to_owned(),
        expected: format!("a name that ends in -NNNNN-of-{count:05}.gguf, as the file is a shard"),
        found: name.unwrap_or("a name that is not UTF-8").to_owned(),
        hint: Some("give all shards their original names"),
    })?;
    let paths: Vec<_> =
        (1..=count).map(|no| path.with_file_name(format!("{prefix}-{no:05}-of-{count:05}.gguf"))).collect();
    match paths.iter().find(|p| !p.exists()) {
        Some(missing) => Err(FormatError::Mismatch {
            path: missing.clone(),
            expected: format!("{count} shards in one folder"),
            found: "no such file".to_owned(),
            hint: Some("get the missing shard too"),
        }),
        None => Ok(paths),
    }
}
