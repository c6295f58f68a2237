//! Measuring what the tensors' errors do.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use formats::Checkpoint;
use formats::imatrix::Imatrix;
use kernels::DType;
use kernels::backend::{Backend, Logits, Program, ProgramOptions, Span, run};
use kernels::quant::search;
use kernels::simd::Tier;

use super::error::AllocationError;
use super::squares::Weighed;
use super::table::{Row, Settings, Table, Way};
use crate::cache::{Cache, chunks};
use crate::evaluate::{EvaluateError, LOGITS_AT_ONCE, score_rows};
use crate::quantize::{Effort, TensorFacts, file_order, layer};

/// Layers whose tensors of one role are measured together: this share of all. The first and the last stand alone.
const BANDS: usize = 3;

/// How to measure.
pub struct MeasureOptions<'a> {
    pub settings: Settings,
    /// What stands in the first place of each window, if not the text's token.
    pub bos: Option<u32>,
    /// Windows to measure on, spread over the text.
    pub windows: usize,
    pub program: ProgramOptions,
    pub imatrix: Option<&'a Imatrix>,
}

/// How far the work is: groups done, and all.
pub type Progress = (usize, usize);

/// Measures the tensors of `source` that may be quantized on a text's tokens. The same numbers for any number of threads.
/// `progress` may break off the work.
///
/// # Errors
/// A source that is quantized or cannot be run, a text that is too short, or an importance matrix of another model.
pub fn measure(
    mut source: Checkpoint,
    backend: &dyn Backend,
    tokens: &[u32],
    options: &MeasureOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Table, AllocationError> {
    let tier = Tier::detect()?;
    let windows = spread(tokens, options.settings.context, options.windows)?;
    let mut told = |done: usize, all: usize| match progress((done, all)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(AllocationError::Interrupted),
    };
    let groups = groups(&source)?;
    told(0, groups.len())?;
    let mut judge = Judge { windows: &windows, options, base: Vec::new() };
    judge.base = judge.logits(&source, backend)?;

    let mut tensors = Vec::new();
    for (group, names) in groups.iter().enumerate() {
        let weighed =
            |name: &String| Ok::<_, AllocationError>(Weighed::new(source.tensor(name)?, options.imatrix, tier)?);
        let members = names.iter().map(weighed).collect::<Result<Vec<_>, _>>()?;
        let Some(measured) = types(&members[0]).min_by_key(|t| t.row_bytes(256)) else { continue };
        for member in &members {
            source.replace(&member.tensor.name, member.rounded(measured))?;
        }
        let kl = judge.divergence(&source, backend)?;
        source.restore();
        let errors: f64 = members.iter().map(|m| m.error(measured, Effort::Reference).0).sum();
        let per_error = if errors > 0.0 { kl / errors } else { 0.0 };
        tensors.extend(members.iter().map(|member| Row {
            tensor: member.tensor.name.clone(),
            shape: member.tensor.shape.clone(),
            group,
            measured: measured.name.to_owned(),
            kl,
            ways: ways(member, options.settings.effort, per_error),
        }));
        told(group + 1, groups.len())?;
    }
    tensors.sort_by(|a, b| file_order(&a.tensor, &b.tensor));
    Ok(Table { settings: options.settings.clone(), windows: windows.len(), tensors })
}

/// The types that a tensor may get: those that can be searched and fit its rows.
fn types(weighed: &Weighed) -> impl Iterator<Item = DType> {
    let cols = weighed.tensor.shape.last().copied().unwrap_or(1);
    DType::all().filter(move |t| search::searchable(*t) && cols.is_multiple_of(t.block))
}

/// All types of a tensor, its own among them.
fn ways(weighed: &Weighed, effort: Effort, per_error: f64) -> Vec<Way> {
    let bytes = |dtype: DType| weighed.values() / dtype.block * dtype.bytes;
    let own = weighed.tensor.dtype;
    let kept = Way { dtype: own.name.to_owned(), bytes: bytes(own), error: 0.0, kl: 0.0 };
    let made = types(weighed).map(|dtype| {
        let (error, squares) = weighed.error(dtype, effort);
        let relative = if squares > 0.0 { error / squares } else { 0.0 };
        Way { dtype: dtype.name.to_owned(), bytes: bytes(dtype), error: relative, kl: error * per_error }
    });
    made.chain([kept]).collect()
}

/// Tensors that are measured together: of one role, in one band of layers. In a fixed order.
fn groups(source: &Checkpoint) -> Result<Vec<Vec<String>>, AllocationError> {
    let last = source.tensors().filter_map(|info| layer(&info.name)).max().unwrap_or(0);
    let band = |layer: u32| match layer {
        0 => 0,
        _ if layer == last => BANDS + 1,
        _ => 1 + (layer as usize - 1) * BANDS / (last as usize - 1).max(1),
    };
    let mut groups = BTreeMap::<_, Vec<String>>::new();
    for info in source.tensors() {
        let dtype = source.tensor(&info.name)?.dtype;
        let facts = TensorFacts { name: &info.name, shape: &info.shape, dtype };
        if !facts.may_change() {
            continue;
        }
        if !dtype.is_float() {
            return Err(AllocationError::Quantized { tensor: info.name.clone(), found: dtype });
        }
        let role: String = info.name.split('.').filter(|part| part.parse::<u32>().is_err()).collect();
        let key = (layer(&info.name).map(band), role, info.shape.last().copied());
        groups.entry(key).or_default().push(info.name.clone());
    }
    Ok(groups.into_values().collect())
}

/// Windows of `context` tokens, evenly spread over the text.
fn spread(tokens: &[u32], context: usize, wanted: usize) -> Result<Vec<&[u32]>, EvaluateError> {
    let windows: Vec<_> = tokens.chunks_exact(context).collect();
    if windows.is_empty() {
        return Err(EvaluateError::ShortText { tokens: tokens.len(), context });
    }
    let count = wanted.clamp(1, windows.len());
    Ok((0..count).map(|i| windows[i * windows.len() / count]).collect())
}

/// Compares what a checkpoint says with what the source said.
struct Judge<'a> {
    windows: &'a [&'a [u32]],
    options: &'a MeasureOptions<'a>,
    /// The source's logits of all windows, as [`Self::each`] gives them.
    base: Vec<Vec<f32>>,
}

impl Judge<'_> {
    fn logits(&self, checkpoint: &Checkpoint, backend: &dyn Backend) -> Result<Vec<Vec<f32>>, AllocationError> {
        let mut all = Vec::new();
        self.each(checkpoint, backend, |logits, _| all.push(logits))?;
        Ok(all)
    }

    /// The mean divergence, in nats.
    fn divergence(&self, checkpoint: &Checkpoint, backend: &dyn Backend) -> Result<f64, AllocationError> {
        let mut base = self.base.iter();
        let (mut sum, mut count) = (0.0, 0.0);
        self.each(checkpoint, backend, |logits, following| {
            let base = base.next().map(Vec::as_slice);
            for score in score_rows(&logits, base, following, self.options.program.threads) {
                sum += score.divergence.map_or(0.0, |d| d.kl);
                count += 1.0;
            }
        })?;
        let mean: f64 = sum / count;
        if mean.is_finite() { Ok(mean) } else { Err(EvaluateError::NotANumber { position: 0 }.into()) }
    }

    /// Runs the second halves of all windows, as an evaluation does, and tells logits and the tokens that follow.
    fn each(
        &self,
        checkpoint: &Checkpoint,
        backend: &dyn Backend,
        mut tell: impl FnMut(Vec<f32>, &[u32]),
    ) -> Result<(), AllocationError> {
        let MeasureOptions { settings: Settings { context, .. }, bos, .. } = *self.options;
        let plan = model::build_plan(checkpoint)?;
        let mut program = backend.compile(plan, &self.options.program, &mut |_, _| ())?;
        let program: &mut dyn Program = &mut *program;
        let cache = Cache::new(program, 1, context)?;
        let at_once = LOGITS_AT_ONCE / program.vocab().max(1);
        let (first, last) = (context / 2, context - 1);
        for window in self.windows {
            let mut inputs = window.to_vec();
            inputs[0] = bos.unwrap_or(inputs[0]);
            let mut compute = |positions: Range<usize>, logits| {
                let tokens = &inputs[positions.clone()];
                let (pages, states) = (cache.pages(0), cache.states(0));
                let span = Span { tokens, position: positions.start, reserved: context, pages, states, logits };
                run(program, &[span]).map(|output| output.logits)
            };
            compute(0..first, Logits::None)?;
            for positions in chunks(first..last, at_once) {
                let logits = compute(positions.clone(), Logits::All)?;
                tell(logits, &window[positions.start + 1..positions.end + 1]);
            }
        }
        Ok(())
    }
}
