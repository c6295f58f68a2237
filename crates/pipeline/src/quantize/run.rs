//! The work: tensor by tensor, in slabs that all threads share.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use formats::imatrix::Imatrix;
use formats::{Checkpoint, Config, Tensor};
use kernels::DType;
use kernels::simd::Tier;
use rayon::prelude::*;

use super::choice::{TypeOptions, choose_types, needs_imatrix};
use super::encoding::{Effort, Encoding};
use super::error::QuantizeError;
use super::facts::ModelFacts;
use super::importance::{self, Importance};
use super::tensors::{TensorFacts, file_order};

/// Values that are read, encoded and written at a time, in whole rows: enough to keep many threads busy.
const SLAB: usize = 1 << 22;
/// Values that a thread takes at a time, in whole rows: their floats stay in its caches.
const CHUNK: usize = 1 << 14;
/// The value of `general.quantization_version`: the layout of blocks that GGUF has had since 2023.
const QUANTIZATION_VERSION: u32 = 2;

/// What to make, and how.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    pub types: TypeOptions,
    /// Whether tensors that are quantized in the source may be quantized again.
    pub requantize: bool,
    /// How many threads; 0 for one per core.
    pub threads: usize,
    /// What types that can weigh columns weigh them by.
    pub imatrix: Option<Arc<Imatrix>>,
    pub effort: Effort,
    /// What a search takes where `imatrix` says nothing; types do not depend on it.
    pub fallback: Option<Arc<Imatrix>>,
}

impl QuantizeOptions {
    /// The types and nothing else.
    pub fn new(types: TypeOptions) -> Self {
        Self { types, requantize: false, threads: 0, imatrix: None, effort: Effort::Reference, fallback: None }
    }
}

/// A tensor of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizedTensor {
    pub name: String,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
    pub from: DType,
    pub to: DType,
    /// Bytes in the source.
    pub bytes_in: usize,
    /// Bytes in the result, without padding.
    pub bytes_out: usize,
    /// Whether its columns were weighed by their importance.
    pub weighed: bool,
}

/// How far the work is. Told after each slab, and at the end of each tensor.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor that is being written, and which of `tensors` it is.
    pub tensor: &'a QuantizedTensor,
    pub index: usize,
    pub tensors: usize,
    /// Bytes of the source that are done, of all tensors.
    pub done: usize,
    pub total: usize,
}

/// Quantizes a GGUF checkpoint to the file `target`, which appears when it is whole. The result lists the tensors in file
/// order. `progress` may break off the work, and nothing is left then.
///
/// The metadata is the source's, but for the file type, the quantization version, what is said of shards and of an
/// importance matrix.
///
/// # Errors
/// The source is not GGUF, is quantized already, or holds what cannot be quantized; a type that was asked for does not fit,
/// or needs an importance matrix that is not there; that is not of this model; the target cannot be written.
pub fn quantize(
    source: &Checkpoint,
    target: &Path,
    options: &QuantizeOptions,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()> + Send,
) -> Result<Vec<QuantizedTensor>, QuantizeError> {
    let Config::Gguf(metadata) = source.config() else { return Err(QuantizeError::NotGguf) };
    let tier = Tier::detect()?;
    let tensors = planned(source, options)?;

    let mut keys = MetadataBuilder::from(metadata);
    keys.set("general.quantization_version", &QUANTIZATION_VERSION);
    keys.set("general.file_type", &options.types.file_type.id);
    ["split.no", "split.count", "split.tensors.count"].into_iter().for_each(|key| keys.remove(key));
    if let Some(imatrix) = &options.imatrix {
        importance::describe(imatrix, &mut keys);
    }
    let new: Vec<_> =
        tensors.iter().map(|t| NewTensor { name: t.name.clone(), dtype: t.to, shape: t.shape.clone() }).collect();
    let mut writer = GgufWriter::create(target, &keys, &new)?;

    let threads = options.threads;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| QuantizeError::Threads { threads, source })?;
    let total = tensors.iter().map(|t| t.bytes_in).sum();
    pool.install(|| {
        let mut done = 0;
        for (index, tensor) in tensors.iter().enumerate() {
            let data = source.tensor(&tensor.name)?;
            let mut after_slab = |bytes: usize| {
                done += bytes;
                match progress(&Progress { tensor, index, tensors: tensors.len(), done, total }) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(QuantizeError::Interrupted),
                }
            };
            let cols = tensor.shape.last().copied().unwrap_or(1);
            let searched = tensor.from != tensor.to && options.effort.improves(tensor.to);
            let imatrix = options.imatrix.as_deref().filter(|_| tensor.weighed);
            let fallback = options.fallback.as_deref().filter(|_| searched);
            let importance = match imatrix.or(fallback) {
                Some(imatrix) => Importance::of(imatrix, &tensor.name, &tensor.shape)?,
                None => None,
            };
            let moments = match imatrix.filter(|imatrix| searched && imatrix.has_products()).or(fallback) {
                Some(imatrix) => importance::moments(imatrix, &tensor.name, cols)?,
                None => None,
            };
            let encoding = Encoding::new(tensor.to, tier, cols, options.effort, importance).with_moments(moments);
            Job { tensor: &data, to: tensor.to, encoding }.run(&mut writer, &mut after_slab)?;
        }
        Ok::<_, QuantizeError>(())
    })?;
    writer.finish()?;
    Ok(tensors)
}

/// What [`quantize`] would make: the tensors of the result, in file order. No data is read.
///
/// # Errors
/// Those of [`quantize`] that do not depend on data.
pub fn planned(source: &Checkpoint, options: &QuantizeOptions) -> Result<Vec<QuantizedTensor>, QuantizeError> {
    let Config::Gguf(metadata) = source.config() else { return Err(QuantizeError::NotGguf) };
    let model = ModelFacts::from_gguf(metadata)?;
    let mut infos: Vec<_> = source.tensors().collect();
    infos.sort_by(|a, b| file_order(&a.name, &b.name));
    let facts = infos.iter().map(|info| {
        let dtype = source.tensor(&info.name)?.dtype;
        Ok(TensorFacts { name: &info.name, shape: &info.shape, dtype })
    });
    let facts = facts.collect::<Result<Vec<_>, QuantizeError>>()?;
    let imatrix = options.imatrix.as_deref();
    let type_options = TypeOptions { imatrix: imatrix.is_some(), ..options.types.clone() };
    let types = choose_types(&model, &facts, &type_options)?;

    let mut tensors = Vec::with_capacity(infos.len());
    for ((info, facts), to) in infos.iter().zip(facts).zip(types) {
        if facts.dtype != to && !facts.dtype.is_float() && !options.requantize {
            return Err(QuantizeError::Quantized { tensor: info.name.clone(), found: facts.dtype });
        }
        let covered = imatrix.map_or(Ok(false), |imatrix| importance::covers(imatrix, &facts, to))?;
        let only_weighed = facts.dtype != to && to.encode.is_none();
        if !covered && (only_weighed || needs_imatrix(&facts, to, options.types.file_type)) {
            let (tensor, dtype) = (info.name.clone(), to);
            match imatrix.map(|imatrix| imatrix.len()) {
                None => return Err(QuantizeError::NeedsImatrix { tensor, dtype }),
                Some(entries) if facts.dtype != to => {
                    return Err(QuantizeError::Unweighed { tensor, dtype, entries });
                }
                Some(_) => {}
            }
        }
        tensors.push(QuantizedTensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            from: facts.dtype,
            to,
            bytes_in: info.bytes,
            bytes_out: info.elements() / to.block * to.bytes,
            weighed: covered && facts.dtype != to && (to.encode_weighted.is_some() || options.effort.improves(to)),
        });
    }
    match imatrix {
        Some(imatrix) if !infos.iter().any(|info| imatrix.entry(&info.name).is_some()) => {
            Err(QuantizeError::OtherImatrix { entries: imatrix.len() })
        }
        _ => Ok(tensors),
    }
}

/// One tensor's way from the source to the file.
struct Job<'a> {
    tensor: &'a Tensor,
    to: DType,
    encoding: Encoding,
}

impl Job<'_> {
    /// Encodes a slab while the one before it is written. The source's pages are released behind it.
    fn run(
        &self,
        writer: &mut GgufWriter,
        after_slab: &mut (impl FnMut(usize) -> Result<(), QuantizeError> + Send),
    ) -> Result<(), QuantizeError> {
        let Tensor { name, data, dtype: from, .. } = self.tensor;
        let slab_bytes = self.rows_in(SLAB) * from.row_bytes(self.cols());
        let (mut ready, mut next) = (Vec::new(), Vec::new());
        for start in (0..data.len()).step_by(slab_bytes) {
            let end = data.len().min(start + slab_bytes);
            let first_row = start / from.row_bytes(self.cols());
            let (written, encoded) =
                rayon::join(|| writer.write(name, &ready), || self.encode(&data[start..end], first_row, &mut next));
            written?;
            encoded?;
            if let Some(slab) = data.slice(start..end) {
                slab.release();
            }
            std::mem::swap(&mut ready, &mut next);
            after_slab(end - start)?;
        }
        Ok(writer.write(name, &ready)?)
    }

    /// Values in a row.
    fn cols(&self) -> usize {
        self.tensor.shape.last().copied().unwrap_or(1)
    }

    /// Whole rows of about so many values.
    fn rows_in(&self, values: usize) -> usize {
        (values / self.cols()).max(1)
    }

    /// Encodes rows of the tensor from `first_row` on into `out`.
    fn encode(&self, source: &[u8], first_row: usize, out: &mut Vec<u8>) -> Result<(), QuantizeError> {
        let (from, to, cols) = (self.tensor.dtype, self.to, self.cols());
        out.resize(source.len() / from.row_bytes(cols) * to.row_bytes(cols), 0);
        let rows = self.rows_in(CHUNK);
        let chunks = source.par_chunks(rows * from.row_bytes(cols));
        let outs = out.par_chunks_mut(rows * to.row_bytes(cols));
        chunks.zip(outs).enumerate().try_for_each_init(Vec::new, |values: &mut Vec<f32>, (i, (chunk, out))| {
            let first_row = first_row + i * rows;
            values.resize(chunk.len() / from.bytes * from.block, 0.0);
            (from.decode)(chunk, values);
            if !all_finite(values) {
                let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
                return Err(self.not_finite(first_row + at / cols));
            }
            if from == to {
                out.copy_from_slice(chunk);
                return Ok(());
            }
            if !self.encoding.encode(values, first_row, out) {
                return Err(QuantizeError::NeedsImatrix { tensor: self.tensor.name.clone(), dtype: to });
            }
            if (to.finite)(out) {
                Ok(())
            } else {
                Err(QuantizeError::TooLarge { tensor: self.tensor.name.clone(), dtype: to })
            }
        })
    }

    fn not_finite(&self, row: usize) -> QuantizeError {
        QuantizeError::NotFinite { tensor: self.tensor.name.clone(), row }
    }
}

/// Whether no value is infinite or NaN. Looks at all values, so that the loop is one of vectors.
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    !values.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT))
}
