//! The form of today: a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use kernels::DType;
use kernels::plan::Bytes;

use super::{
    CHUNK_SIZE_KEY, CHUNKS_KEY, COUNTS, DATASETS_KEY, Entry, Form, Imatrix, PRODUCTS, SAME_INPUTS_KEY, SHARING_KEY,
    SUMS, TYPE, TYPE_KEY, wrong,
};
use crate::FormatError;
use crate::gguf::{Header, Metadata};

/// The bytes of a matrix's sums and of its counts.
type Pair = [Option<Bytes>; 2];

pub fn parse(bytes: Bytes, path: &Path) -> Result<Imatrix, FormatError> {
    let Header { metadata, tensors, .. } = Header::parse(bytes.clone(), path)?;
    check_type(&metadata)?;
    let mut pairs: BTreeMap<&str, Pair> = BTreeMap::new();
    let mut products = BTreeMap::new();
    for info in &tensors {
        if let Some(name) = info.name.strip_suffix(PRODUCTS) {
            let data = bytes.slice(info.offset..info.offset + info.bytes);
            match data.filter(|_| info.dtype() == Some(DType::F32)) {
                Some(data) => products.insert(name.to_owned(), data),
                None => return Err(wrong(path, &info.name, "numbers of type F32", info.raw_type.to_string())),
            };
        }
        let part = [SUMS, COUNTS].map(|suffix| info.name.strip_suffix(suffix));
        let Some((which, name)) = part.into_iter().enumerate().find_map(|(i, name)| Some((i, name?))) else { continue };
        if info.dtype() != Some(DType::F32) {
            return Err(wrong(path, &info.name, "numbers of type F32", info.raw_type.to_string()));
        }
        // The header has placed it in the file.
        let data = bytes.slice(info.offset..info.offset + info.bytes);
        if std::mem::replace(&mut pairs.entry(name).or_default()[which], data).is_some() {
            return Err(wrong(path, &info.name, "a name used once", "another tensor of that name".to_owned()));
        }
    }
    let mut entries = BTreeMap::new();
    for (name, pair) in pairs {
        let [Some(sums), Some(counts)] = pair else {
            return Err(wrong(path, name, "sums and counts", "one without the other".to_owned()));
        };
        let mut values = vec![0.0; counts.len() / DType::F32.bytes];
        (DType::F32.decode)(&counts, &mut values);
        values.iter_mut().for_each(|count| *count = count.round());
        entries.insert(name.to_owned(), Entry::new(path, name, sums, values)?);
    }
    if entries.is_empty() {
        return Err(not_one(path, "a GGUF file without sums of inputs"));
    }
    let names = |key| Ok::<_, FormatError>(metadata.get::<Vec<&str>>(key)?.unwrap_or_default());
    let same_inputs = names(SHARING_KEY)?.into_iter().zip(names(SAME_INPUTS_KEY)?);
    let same_inputs = same_inputs.map(|(tensor, of)| (tensor.to_owned(), of.to_owned())).collect();
    let datasets = names(DATASETS_KEY)?;
    Ok(Imatrix {
        path: path.to_owned(),
        form: Form::Gguf,
        datasets: datasets.into_iter().map(str::to_owned).collect(),
        chunks: metadata.get(CHUNKS_KEY)?.unwrap_or(0),
        chunk_size: metadata.get(CHUNK_SIZE_KEY)?.filter(|&size| size > 0),
        entries,
        products,
        same_inputs,
    })
}

fn check_type(metadata: &Metadata) -> Result<(), FormatError> {
    match metadata.get::<&str>(TYPE_KEY)? {
        None if metadata.get::<&str>("general.architecture")?.is_none() => Ok(()),
        Some(TYPE) => Ok(()),
        _ => Err(not_one(metadata.path(), "a GGUF file of a model")),
    }
}

fn not_one(path: &Path, found: &str) -> FormatError {
    FormatError::Kind { path: path.to_owned(), expected: "an importance matrix", found: found.to_owned(), hint: None }
}
