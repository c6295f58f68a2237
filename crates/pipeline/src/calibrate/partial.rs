//! What a calibration that was broken off leaves: a GGUF file whose keys are the sums so far in f64, and whose tensors are
//! those of products.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use formats::{Checkpoint, Config, FormatError};
use kernels::DType;
use sha2::{Digest, Sha256};

use super::sums::TensorSums;
use super::{CalibrateError, CalibrateOptions, Calibration};

const TYPE_KEY: &str = "general.type";
const TYPE: &str = "partial_imatrix";
const IDENTITY_KEY: &str = "calibration.identity";
const WINDOWS_KEY: &str = "calibration.windows";
const SQUARES_KEY: &str = "calibration.squares";
const COUNTS_KEY: &str = "calibration.counts";
/// Of each tensor the one that has its products; itself, where that is none other.
const SAME_KEY: &str = "calibration.same_as";
/// Bytes at either end of each tensor that a model is known by.
const SAMPLE: usize = 4096;

/// Where the partial result of a calibration to `target` lies: beside it.
pub fn path(target: &Path) -> PathBuf {
    let mut name = target.file_name().map(OsString::from).unwrap_or_default();
    name.push(".partial");
    target.with_file_name(name)
}

/// A digest of all that the sums depend on: the model, known by its settings and parts of each tensor, the tokens, and how
/// they are cut.
///
/// # Errors
/// A tensor lies outside its file.
pub fn identity(model: &Checkpoint, tokens: &[u32], options: &CalibrateOptions) -> Result<String, FormatError> {
    let mut digest = Sha256::new();
    match model.config() {
        Config::Gguf(metadata) => metadata.iter().for_each(|(key, value)| digest.update(format!("{key}={value}\n"))),
        Config::HuggingFace(config) => digest.update(config.value().to_string()),
    }
    for info in model.tensors() {
        let bytes = model.raw(&info.name)?;
        digest.update(format!("{} {} {:?} {}\n", info.name, info.raw_type, info.shape, bytes.len()));
        let sample = bytes.len().min(SAMPLE);
        digest.update(&bytes[..sample]);
        digest.update(&bytes[bytes.len() - sample..]);
    }
    digest.update(format!("{:?} {} tokens\n", options, tokens.len()));
    tokens.iter().for_each(|token| digest.update(token.to_le_bytes()));
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes what is done of the calibration with this identity.
///
/// # Errors
/// The file cannot be written.
pub fn save(calibration: &Calibration, path: &Path, identity: &str) -> Result<(), CalibrateError> {
    let tensors = calibration.sums.tensors();
    let squares: Vec<f64> = tensors.iter().flat_map(|t| t.squares.iter().copied()).collect();
    let counts: Vec<u64> = tensors.iter().flat_map(|t| t.counts.iter().copied()).collect();
    let same = tensors.iter().enumerate().map(|(number, tensor)| tensor.same_as.unwrap_or(number) as u64);
    let same: Vec<u64> = same.collect();
    let mut keys = MetadataBuilder::new();
    keys.set(TYPE_KEY, TYPE);
    keys.set(IDENTITY_KEY, identity);
    keys.set(WINDOWS_KEY, &(calibration.windows as u64));
    keys.set(SQUARES_KEY, &squares);
    keys.set(COUNTS_KEY, &counts);
    keys.set(SAME_KEY, &same);
    let with = || tensors.iter().filter(|tensor| !tensor.products.is_empty());
    let new = |tensor: &TensorSums| NewTensor {
        name: tensor.name.clone(),
        dtype: DType::F32,
        shape: vec![tensor.products.len()],
    };
    let mut file = GgufWriter::create(path, &keys, &with().map(new).collect::<Vec<_>>())?;
    for tensor in with() {
        let bytes: Vec<u8> = tensor.products.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        file.write(&tensor.name, &bytes)?;
    }
    Ok(file.finish()?)
}

/// Takes the calibration up where [`save`] left it. Without a file it stays as it is.
///
/// # Errors
/// The file is no partial result, or one of another calibration.
pub fn resume(calibration: &mut Calibration, path: &Path, identity: &str) -> Result<(), CalibrateError> {
    if !path.exists() {
        return Ok(());
    }
    let file = Checkpoint::open(path)?;
    let other = || CalibrateError::OtherPartial { path: path.to_owned() };
    let Config::Gguf(metadata) = file.config() else { return Err(other()) };
    if metadata.get(TYPE_KEY)? != Some(TYPE) || metadata.require::<&str>(IDENTITY_KEY)? != identity {
        return Err(other());
    }
    let mut squares = metadata.require::<Vec<f64>>(SQUARES_KEY)?.into_iter();
    let mut counts = metadata.require::<Vec<u64>>(COUNTS_KEY)?.into_iter();
    let same = metadata.require::<Vec<u64>>(SAME_KEY)?;
    let windows = metadata.require(WINDOWS_KEY)?;
    let tensors = calibration.sums.tensors_mut();
    let expected = |of: fn(&TensorSums) -> usize| tensors.iter().map(of).sum::<usize>();
    if same.len() != tensors.len()
        || (squares.len(), counts.len()) != (expected(|t| t.squares.len()), expected(|t| t.counts.len()))
    {
        return Err(other());
    }
    for (number, (tensor, same)) in tensors.iter_mut().zip(same).enumerate() {
        tensor.same_as = Some(same as usize).filter(|same| *same != number);
        if let Some(info) = file.tensor_info(&tensor.name) {
            tensor.products = vec![0.0; info.elements()];
            (DType::F32.decode)(&file.tensor(&tensor.name)?.data, &mut tensor.products);
        }
        tensor.squares.iter_mut().zip(&mut squares).for_each(|(sum, found)| *sum = found);
        tensor.counts.iter_mut().zip(&mut counts).for_each(|(count, found)| *count = found);
    }
    calibration.windows = windows;
    Ok(())
}
