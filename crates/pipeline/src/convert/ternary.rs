//! Ternary matrices: which tensors of a source are, and what a folder has in their place.

use std::collections::{BTreeMap, HashSet};

use formats::gguf::NewTensor;
use formats::{Checkpoint, Config};
use kernels::DType;
use kernels::plan::{Bytes, DecoderPlan, Linear, Weight};
use kernels::simd::Tier;
use model::arch::{DecoderConfig, Ternary};

use super::plan::{Part, Step, Types};
use super::stream::{Change, RowOrder};
use super::{ConvertError, ConvertOptions};

/// A ternary matrix of the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub from: Stored,
    pub rows: usize,
    pub cols: usize,
}

/// How the source has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    As(Ternary),
    /// In blocks that all have this scale, or are zero.
    Scaled(f32),
}

impl Matrix {
    /// Its blocks, the number that stands for 1 in them, and the factor.
    ///
    /// # Errors
    /// As [`model::ternary::read`].
    pub fn read(self, source: &Checkpoint, tensor: &str) -> Result<(Weight, f32, f32), ConvertError> {
        match self.from {
            Stored::As(kind) => {
                let (weight, factor) = model::ternary::read(source, kind, tensor, self.rows, self.cols)?;
                Ok((weight, 1.0, factor))
            }
            Stored::Scaled(scale) => Ok((source.tensor(tensor)?.into_weight()?, scale, scale)),
        }
    }

    fn factor(self, source: &Checkpoint, tensor: &str) -> Result<f32, ConvertError> {
        match self.from {
            Stored::As(kind) => Ok(model::ternary::factor(source, kind, tensor)?.unwrap_or(1.0)),
            Stored::Scaled(scale) => Ok(scale),
        }
    }
}

/// The ternary matrices of a source by their names there, and the tensors with their factors.
#[derive(Default)]
pub(super) struct Matrices {
    pub matrices: BTreeMap<String, Matrix>,
    pub factors: HashSet<String>,
    /// One that has a bias, too.
    biased: Option<String>,
}

impl Matrices {
    /// Those that the plan says are ternary.
    pub fn of(kind: Ternary, plan: &DecoderPlan) -> Self {
        let mut all = Self::default();
        for linear in plan.linears().filter(|linear| linear.ternary.is_some()) {
            all.factors.extend(model::ternary::factor_of(kind, &linear.weight.name));
            all.add(linear, Stored::As(kind));
        }
        all
    }

    /// All matrices of a file's layers, where each has blocks of a ternary type with one scale: so has what llama.cpp makes of
    /// BitNet.
    fn of_blocks(plan: &DecoderPlan) -> Self {
        let mut all = Self::default();
        for linear in plan.layers.iter().flat_map(|layer| layer.linears()) {
            let Some(scale) = model::ternary::one_scale(&linear.weight) else { return Self::default() };
            all.add(linear, Stored::Scaled(scale));
        }
        all
    }

    fn add(&mut self, Linear { weight, bias, .. }: &Linear, from: Stored) {
        self.matrices.insert(weight.name.clone(), Matrix { from, rows: weight.rows, cols: weight.cols });
        self.biased = self.biased.take().or(bias.is_some().then(|| weight.name.clone()));
    }

    /// A ternary matrix as a GGUF file has it: -1, 0 and 1 in the narrowest blocks, beside them its factor; or both multiplied,
    /// where a type of floats was asked for.
    pub fn gguf_step(
        tensor: &str,
        matrix: Matrix,
        name: &str,
        (rows, columns): (Option<RowOrder>, Option<RowOrder>),
        types: &Types,
    ) -> Step {
        let target = NewTensor {
            name: name.to_owned(),
            dtype: types.kept(model::ternary::dtype(matrix.cols)),
            shape: vec![matrix.rows, matrix.cols],
        };
        let change = if target.dtype.is_float() { Change::Factor } else { Change::None };
        let factor = model::ternary::factor_of(Ternary::Blocks, name).filter(|_| !target.dtype.is_float());
        let factor = factor.map(|name| NewTensor { name, dtype: DType::F32, shape: vec![1] });
        Step { rows, columns, change, ternary: Some(matrix), factor, ..Step::plain(Part::whole(tensor), target) }
    }
}

/// What a folder has in place of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Values,
    /// The source's bytes.
    Copied,
    /// Four rows in a byte; by the factor one multiplies, or else one divides by its reciprocal.
    Packed {
        divides: bool,
    },
}

/// What becomes of ternary matrices in a folder.
#[derive(Default)]
pub(super) struct ForFolder {
    pub of: Matrices,
    /// None where they become floats, or are no longer ternary.
    form: Option<Form>,
    /// Of factors.
    scale: Option<DType>,
}

impl ForFolder {
    /// Ternary matrices stay so unless a type or a layout is asked for.
    ///
    /// # Errors
    /// The rows of a matrix are no multiple of four, or no number stands for its factor.
    pub fn new(
        source: &Checkpoint,
        config: &DecoderConfig,
        bitnet: bool,
        plan: &DecoderPlan,
        options: ConvertOptions,
        tier: Tier,
    ) -> Result<Self, ConvertError> {
        let kept = options.dtype.is_none() && options.layout.is_none();
        match (source.config(), config.ternary) {
            // Weights in full precision that are rounded as they are read may stay so in another type.
            (_, Some(Ternary::Online)) if options.layout.is_none() => Ok(Self::default()),
            (Config::HuggingFace(_), Some(kind)) if kept => {
                let of = Matrices { factors: HashSet::new(), ..Matrices::of(kind, plan) };
                Ok(Self { of, form: Some(Form::Copied), scale: None })
            }
            (_, Some(kind)) if !kept => Ok(Self { of: Matrices::of(kind, plan), form: None, scale: None }),
            (_, Some(kind)) => Self::packed(source, Matrices::of(kind, plan), tier),
            (Config::Gguf(_), None) if kept && bitnet => Self::packed(source, Matrices::of_blocks(plan), tier),
            _ => Ok(Self::default()),
        }
    }

    /// Factors get the type of the embedding if they, or their reciprocals, have the same values in it.
    fn packed(source: &Checkpoint, of: Matrices, tier: Tier) -> Result<Self, ConvertError> {
        let mut factors = Vec::new();
        for (tensor, matrix) in &of.matrices {
            if !matrix.rows.is_multiple_of(model::ternary::ROWS_OF_BYTE) {
                return Err(ConvertError::Rows { tensor: tensor.clone(), rows: matrix.rows });
            }
            factors.push(matrix.factor(source, tensor)?);
        }
        if factors.is_empty() {
            return Ok(Self::default());
        }
        let float = source.tensor_info("token_embd.weight").and_then(|info| info.dtype()).filter(|d| d.is_float());
        let divides = |scale: DType| factors.iter().all(|f| 1.0 / rounded(1.0 / f, scale, tier) == *f);
        let multiplies = |scale: DType| factors.iter().all(|f| rounded(*f, scale, tier) == *f);
        let mut forms = float.into_iter().chain([DType::F32]).flat_map(|scale| [(scale, false), (scale, true)]);
        // With biases, the form that multiplies would multiply them, too.
        let found = forms.find(|&(scale, reciprocal)| match (reciprocal, &of.biased) {
            (true, _) => divides(scale),
            (false, None) => multiplies(scale),
            (false, Some(_)) => false,
        });
        match (found, of.biased.clone()) {
            (Some((scale, divides)), _) => Ok(Self { of, form: Some(Form::Packed { divides }), scale: Some(scale) }),
            (None, tensor) => Err(ConvertError::Biased { tensor: tensor.unwrap_or_default() }),
        }
    }

    /// How the folder's settings describe them; none where they are no longer ternary.
    pub fn kind(&self) -> Option<Ternary> {
        match self.form? {
            Form::Packed { divides } => Some(Ternary::Packed { divides }),
            Form::Copied | Form::Values => None,
        }
    }

    /// Whether matrices lose what the source's settings say of them.
    pub fn decodes(&self) -> bool {
        self.form.is_none() && !self.of.matrices.is_empty()
    }

    /// Whether the tensor stays ternary.
    pub fn keeps(&self, tensor: &str) -> bool {
        self.form.is_some() && self.of.matrices.contains_key(tensor)
    }

    /// What a ternary matrix becomes; `types` are those of a matrix, as [`Types::matrix`] says, where it is one of floats.
    pub fn step(
        &self,
        tensor: &str,
        matrix: Matrix,
        name: String,
        (rows, columns): (Option<RowOrder>, Option<RowOrder>),
        types: impl Fn(DType, usize) -> (DType, Option<DType>),
    ) -> Step {
        let ternary = model::ternary::dtype(matrix.cols);
        let (dtype, float) = if self.form.is_some() { (ternary, None) } else { types(ternary, matrix.cols) };
        let kind = Ternary::Packed { divides: false };
        let factor = self.scale.zip(model::ternary::factor_of(kind, &name));
        let target = NewTensor { name, dtype, shape: vec![matrix.rows, matrix.cols] };
        Step {
            rows,
            columns,
            change: if self.form.is_some() { Change::None } else { Change::Factor },
            float,
            ternary: Some(matrix),
            factor: factor.map(|(dtype, name)| NewTensor { name, dtype, shape: vec![1] }),
            form: self.form.unwrap_or(Form::Values),
            ..Step::plain(Part::whole(tensor), target)
        }
    }
}

/// A number as it is in a type.
fn rounded(value: f32, dtype: DType, tier: Tier) -> f32 {
    let (mut bytes, mut back) = (vec![0; dtype.bytes], [0.0]);
    if let Some(encode) = dtype.encode {
        encode(tier, &[value], &mut bytes);
        (dtype.decode)(&bytes, &mut back);
    }
    back[0]
}

/// The factor as a folder has it.
pub(super) fn scale_bytes(factor: f32, form: Form, dtype: DType, tier: Tier) -> Vec<u8> {
    let scale = if form == (Form::Packed { divides: true }) { 1.0 / factor } else { factor };
    let mut bytes = vec![0; dtype.bytes];
    if let Some(encode) = dtype.encode {
        encode(tier, &[scale], &mut bytes);
    }
    bytes
}

/// Hands the matrix, packed, to `sink` row by row. `one` is what stands for 1 in its blocks.
///
/// # Errors
/// Those of `sink`; a value that is neither -1, 0 nor 1.
pub(super) fn pack(
    weight: &Weight,
    one: f32,
    step: &Step,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let quarter = weight.rows / model::ternary::ROWS_OF_BYTE;
    let (mut packed, mut ordered) = (vec![0; weight.cols], Vec::new());
    for first in 0..quarter {
        let rows = std::array::from_fn(|i| {
            let row = first + i * quarter;
            step.rows.map_or(row, |order| order.source(row))
        });
        model::ternary::pack(weight, one, rows, &mut packed)
            .map_err(|found| ConvertError::NotTernary { tensor: weight.name.clone(), found })?;
        match step.columns {
            None => sink(&packed)?,
            Some(order) => {
                ordered.clear();
                ordered.extend((0..weight.cols).map(|col| packed[order.source(col)]));
                sink(&ordered)?;
            }
        }
    }
    weight.data.release();
    Ok(())
}

/// Hands the tensor's bytes to `sink` as they are.
///
/// # Errors
/// Those of `sink`.
pub(super) fn copy(bytes: &Bytes, sink: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>) -> Result<(), ConvertError> {
    /// Bytes that are handed over at a time.
    const PIECE: usize = 1 << 22;
    bytes.chunks(PIECE).try_for_each(sink)?;
    bytes.release();
    Ok(())
}
