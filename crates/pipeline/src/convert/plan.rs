//! Which tensors the result has, and what becomes of each on the way.

use std::ops::Range;

use formats::gguf::NewTensor;
use formats::mlx::{Layout, Mode};
use formats::safetensors::{Content, FolderTensor};
use formats::{Checkpoint, TensorInfo};
use kernels::DType;
use model::arch::{Architecture, DecoderConfig, Piece};

use super::stream::{Change, RowOrder};
use super::ternary::{Form, Matrix};
use super::{ConvertError, ConvertOptions, exact};

/// A tensor of the result and what becomes it.
pub(super) struct Step {
    /// Of the source, one after the other.
    pub parts: Vec<Part>,
    pub target: NewTensor,
    /// The order of its rows, and of the values in each.
    pub rows: Option<RowOrder>,
    pub columns: Option<RowOrder>,
    pub change: Change,
    /// Of a matrix that is quantized anew as MLX does, the type that its values have before.
    pub float: Option<DType>,
    /// Of a ternary matrix, which is one part.
    pub ternary: Option<Matrix>,
    /// The tensor of the result with its factor, if it is not multiplied in.
    pub factor: Option<NewTensor>,
    /// How a folder has it; where rows share bytes, `target` is the matrix that they amount to.
    pub form: Form,
}

impl Step {
    /// The parts as they are, one after the other.
    pub fn plain(parts: Vec<Part>, target: NewTensor) -> Self {
        Self {
            parts,
            target,
            rows: None,
            columns: None,
            change: Change::None,
            float: None,
            ternary: None,
            factor: None,
            form: Form::Values,
        }
    }

    /// What a folder gets of it.
    pub fn in_folder(&self) -> impl Iterator<Item = FolderTensor> {
        let mut target = FolderTensor::from(self.target.clone());
        if self.form != Form::Values {
            target.content = Content::Bytes;
            target.shape[0] = target.shape[0].div_ceil(model::ternary::ROWS_OF_BYTE);
        }
        std::iter::once(target).chain(self.factor.clone().map(FolderTensor::from))
    }
}

/// Which way a tensor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Gguf,
    HuggingFace,
    Mlx,
}

impl To {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gguf => "GGUF files",
            Self::HuggingFace => "Hugging Face folders",
            Self::Mlx => "MLX folders",
        }
    }

    /// The type in this format that has exactly the values of another, if there is one.
    fn keeps(self, dtype: DType) -> Option<DType> {
        let there = match self {
            _ if dtype.is_float() => true,
            Self::Gguf => dtype.ggml_id.is_some(),
            Self::HuggingFace => false,
            Self::Mlx => Layout::of(dtype).is_some(),
        };
        let twin = |dtype| match self {
            Self::Gguf => exact::to_gguf(dtype),
            Self::HuggingFace => None,
            Self::Mlx => exact::to_mlx(dtype),
        };
        if there { Some(dtype) } else { twin(dtype) }
    }
}

/// A tensor of the source, or some of its rows.
pub(super) struct Part {
    pub tensor: String,
    pub rows: Option<Range<usize>>,
}

impl Part {
    pub fn whole(tensor: &str) -> Vec<Self> {
        vec![Self { tensor: tensor.to_owned(), rows: None }]
    }

    pub fn of(pieces: Vec<Piece>) -> Vec<Self> {
        pieces.into_iter().map(|piece| Self { tensor: piece.tensor, rows: Some(piece.rows) }).collect()
    }
}

/// Whether a tensor with this canonical name tells which experts a position takes: GGUF files have it in F32.
pub(super) fn is_router(canonical: &str) -> bool {
    canonical.ends_with(".ffn_gate_inp.weight") || is_shared_gate(canonical)
}

/// Whether it weighs the shared expert: a matrix of one row, and in older GGUF files a vector.
pub(super) fn is_shared_gate(canonical: &str) -> bool {
    canonical.ends_with(".ffn_gate_inp_shexp.weight")
}

/// What decides over the types of the result.
pub(super) struct Types {
    pub to: To,
    /// Of what is not quantized; `None` keeps it as it is.
    pub dtype: Option<DType>,
    /// How matrices are quantized anew.
    layout: Option<Layout>,
}

impl Types {
    /// `packed` tells the tensors that have a form of their own in the target.
    ///
    /// # Errors
    /// The source is quantized as the target cannot be, and nothing says what it becomes.
    pub fn new(
        source: &Checkpoint,
        to: To,
        options: ConvertOptions,
        packed: impl Fn(&str) -> bool,
    ) -> Result<Self, ConvertError> {
        let ConvertOptions { dtype, layout } = options;
        if let Some(layout) = layout
            && (to != To::Mlx || layout.dtype(DType::F16).is_none())
        {
            return Err(ConvertError::Layout { layout });
        }
        let lost =
            |info: &&TensorInfo| info.dtype().is_some_and(|dtype| to.keeps(dtype).is_none()) && !packed(&info.name);
        match source.tensors().find(lost) {
            Some(info) if dtype.is_none() && layout.is_none() => {
                let (found, to) = (info.dtype().unwrap_or(DType::F32), to.name());
                Err(ConvertError::Quantized { tensor: info.name.clone(), found, to })
            }
            _ => Ok(Self { to, dtype, layout }),
        }
    }

    /// The type of what is not quantized anew.
    pub fn kept(&self, found: DType) -> DType {
        self.dtype.or_else(|| self.to.keeps(found)).unwrap_or(DType::F16)
    }

    /// The type of a matrix with rows of `cols` values, and if it is quantized anew, the type of its values before. `eight_bits`
    /// where mlx-lm takes 8 bits in groups of 64 for any that is asked for.
    pub fn matrix(&self, found: DType, cols: usize, eight_bits: bool) -> (DType, Option<DType>) {
        const EIGHT_BITS: Layout = Layout { mode: Mode::Affine, bits: 8, group: 64 };
        let float = self.dtype.unwrap_or(if found.is_float() { found } else { DType::F16 });
        let asked = self.layout.filter(|layout| cols.is_multiple_of(layout.group));
        let layout = asked.map(|layout| if eight_bits { EIGHT_BITS } else { layout });
        let anew = layout
            .and_then(|layout| layout.dtype_of_rows(cols, float))
            .filter(|dtype| cols.is_multiple_of(dtype.block));
        anew.map_or_else(|| (self.kept(found), None), |dtype| (dtype, Some(float)))
    }
}

/// The type of ternary matrices, or else that which most values of the source's matrices have, as they will be in the result.
pub(super) fn main_type(steps: &[Step]) -> DType {
    let of = |dtype: DType| -> usize {
        let matrices = steps.iter().filter(|s| s.target.shape.len() > 1 && s.target.dtype == dtype);
        matrices.map(|s| s.target.shape.iter().product::<usize>()).sum()
    };
    let ternary = steps.iter().find(|s| s.factor.is_some()).map(|s| s.target.dtype);
    let most = || DType::in_gguf().max_by_key(|dtype| of(*dtype));
    ternary.or_else(most).unwrap_or(DType::F32)
}

/// What the values of the tensor with this canonical name become; `plus_one` where the weights of norms lack 1 in Hugging
/// Face files.
pub(super) fn change_of(plus_one: bool, canonical: &str, to: To) -> Change {
    let norm = canonical.ends_with("norm.weight") && !canonical.ends_with(".ssm_norm.weight");
    match to {
        To::Gguf if canonical.ends_with(".ssm_a") => Change::NegativeExp,
        To::HuggingFace | To::Mlx if canonical.ends_with(".ssm_a") => Change::Logarithm,
        To::Gguf if plus_one && norm => Change::Add(1.0),
        To::HuggingFace | To::Mlx if plus_one && norm => Change::Add(-1.0),
        _ => Change::None,
    }
}

/// Whether the tensor with this canonical name holds the weights of a convolution, which are F32 in GGUF files.
pub(super) fn is_conv(canonical: &str) -> bool {
    canonical.ends_with(".ssm_conv1d.weight") || canonical.ends_with(".shortconv.conv.weight")
}

/// The shape that a tensor of this shape gets: the weights of a convolution have one axis more in Hugging Face files, and
/// where mlx-lm has transformed them, that one at the end.
pub(super) fn shape_of(canonical: &str, shape: &[usize], to: To) -> Vec<usize> {
    match (shape, to) {
        ([channels, 1, taps] | [channels, taps, 1], To::Gguf) if is_conv(canonical) => vec![*channels, *taps],
        ([channels, taps] | [channels, taps, 1], To::HuggingFace | To::Mlx) if is_conv(canonical) => {
            vec![*channels, 1, *taps]
        }
        _ => shape.to_vec(),
    }
}

/// The orders of rows and of columns that a tensor with this canonical name needs: of Q and K in families whose GGUF files
/// rotate neighbours, and of whatever has value heads in families whose value heads share key heads.
pub(super) fn orders_of(
    architecture: &Architecture,
    config: &DecoderConfig,
    canonical: &str,
    to: To,
) -> (Option<RowOrder>, Option<RowOrder>) {
    let part = canonical.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or("", |(_, part)| part);
    if architecture.permutes_heads() && ["attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias"].contains(&part)
    {
        let head_dim = config.head_dim;
        let order = match to {
            To::Gguf => RowOrder::Interleave { head_dim },
            To::HuggingFace | To::Mlx => RowOrder::Halves { head_dim },
        };
        return (Some(order), None);
    }
    let Some(net) = config.delta_net.filter(|net| net.key_heads != net.value_heads) else { return (None, None) };
    let order = |first: usize, rows: usize| {
        let (groups, each) = (net.key_heads, net.value_heads / net.key_heads);
        Some(match to {
            To::Gguf => RowOrder::Tile { first, rows, groups, each },
            To::HuggingFace | To::Mlx => RowOrder::Tile { first, rows, groups: each, each: groups },
        })
    };
    match part {
        "attn_qkv.weight" | "ssm_conv1d.weight" => (order(2 * net.key_heads * net.key_dim, net.value_dim), None),
        "attn_gate.weight" => (order(0, net.value_dim), None),
        "ssm_beta.weight" | "ssm_alpha.weight" | "ssm_a" | "ssm_dt.bias" => (order(0, 1), None),
        "ssm_out.weight" => (None, order(0, net.value_dim)),
        _ => (None, None),
    }
}
