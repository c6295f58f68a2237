//! Why quantizing failed.

use formats::FormatError;
use kernels::DType;
use kernels::simd::TierError;

#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    #[error(transparent)]
    Format(#[from] FormatError),

    #[error(transparent)]
    Tier(#[from] TierError),

    #[error("cannot start {threads} threads: {source}")]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },

    #[error("expected a source in GGUF, found a folder in Hugging Face layout")]
    NotGguf,

    /// The source is quantized already, and requantizing was not asked for.
    #[error("tensor {tensor}: expected F32, F16 or BF16 in the source, found {found}")]
    Quantized { tensor: String, found: DType },

    /// A type that was asked for by name does not fit the tensor's shape.
    #[error("tensor {tensor}: expected rows in whole blocks of {} values for {dtype}, found {cols} values", dtype.block)]
    Blocks { tensor: String, dtype: DType, cols: usize },

    /// A mixture's tensor whose name gives no layer, or one that the model has not.
    #[error("tensor {tensor}: expected a name blk.N.… with N below {layers}")]
    Layer { tensor: String, layers: u32 },

    /// A type of few bits that is of no use without knowing which values matter.
    #[error("tensor {tensor}: {dtype} in this mix needs an importance matrix")]
    NeedsImatrix { tensor: String, dtype: DType },

    /// The importance matrix there is says nothing of such a tensor.
    #[error("tensor {tensor}: {dtype} needs its importance, expected it among the {entries} entries of the matrix")]
    Unweighed { tensor: String, dtype: DType, entries: usize },

    /// The importance matrix is one of another model.
    #[error("tensor {tensor}: expected the importance of {expected} columns, found that of {found}")]
    Columns { tensor: String, expected: usize, found: usize },

    /// The importance matrix is one of another model altogether.
    #[error("expected the importance of this model's tensors, found none among {entries} entries")]
    OtherImatrix { entries: usize },

    /// Products of the importance matrix that are no sums, or not of this tensor's columns.
    #[error("tensor {tensor}: expected sums of products of {cols} columns, found {found} numbers that are not")]
    Products { tensor: String, cols: usize, found: usize },

    #[error("tensor {tensor}, row {row}: expected finite numbers, found infinity or NaN")]
    NotFinite { tensor: String, row: usize },

    /// Scales of quantized types, and values of F16 and BF16, have a largest number.
    #[error("tensor {tensor}: its values are too large for {dtype}")]
    TooLarge { tensor: String, dtype: DType },

    /// Not `PATTERN=TYPE`.
    #[error("{text:?}: expected a regular expression, = and a type, found {found}")]
    TensorType { text: String, found: String },

    #[error("interrupted")]
    Interrupted,
}

impl QuantizeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Format(error) => error.hint(),
            Self::NotGguf => Some("convert it to GGUF first"),
            Self::Quantized { .. } => {
                Some("quantize from the F16, BF16 or F32 file; or give --requantize, which loses quality")
            }
            Self::Blocks { .. } => {
                Some("a type in blocks of 32 may fit: Q8_0, Q5_1, Q5_0, Q4_1, Q4_0; F16 always does")
            }
            Self::NeedsImatrix { .. } => Some(
                "make one from a text with `calibrate` and give it with --imatrix; Q2_K, Q3_K, IQ3_S and larger types need none",
            ),
            Self::Unweighed { .. } => {
                Some("Q2_K, Q3_K, IQ3_S and larger types need none: give one for it with --tensor-type")
            }
            Self::Columns { .. } | Self::OtherImatrix { .. } | Self::Products { .. } => {
                Some("make the importance matrix from this model, or from a file of it in another type")
            }
            Self::NotFinite { .. } => Some("the source is damaged: get it again"),
            Self::TooLarge { .. } => Some("BF16 holds numbers of any size that F32 does"),
            _ => None,
        }
    }
}
