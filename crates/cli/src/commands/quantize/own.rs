//! What `--effort high` learns by itself: how the columns of matrices go together as the model writes a text.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use formats::Checkpoint;
use formats::imatrix::Imatrix;
use kernels::backend::KvType;
use model::node_tensors;
use pipeline::calibrate::{CalibrateError, CalibrateOptions, Calibration, OWN_CONTEXT, own_text};
use pipeline::quantize::{Effort, QuantizeOptions, planned};

use crate::context::{Context, Keep, Numbers};
use crate::evaluation::added_bos;
use crate::interrupt::Watch;
use crate::ui::error::Interrupted;

/// Sums and products of the model at `path`, if the options need them and have none. A model that cannot be run has none,
/// and a note says so. The file that they stand in for a moment lies beside `out`.
pub fn measured(
    context: &Context,
    source: &Checkpoint,
    path: &Path,
    out: &Path,
    options: &QuantizeOptions,
) -> Result<Option<Arc<Imatrix>>> {
    let known = options.imatrix.as_ref().is_some_and(|imatrix| imatrix.has_products());
    if known || options.effort != Effort::High {
        return Ok(None);
    }
    let planned = planned(source, options).map_err(super::told)?;
    if !planned.iter().any(|tensor| tensor.from != tensor.to && options.effort.improves(tensor.to)) {
        return Ok(None);
    }
    match measure(context, source, path, out) {
        Ok(imatrix) => Ok(Some(Arc::new(imatrix))),
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            context.ui.note(&format!("blocks are searched without knowing how columns go together: {error:#}"));
            Ok(None)
        }
    }
}

fn measure(context: &Context, source: &Checkpoint, path: &Path, out: &Path) -> Result<Imatrix> {
    let nodes = node_tensors(source)?;
    let mut loaded = context.load_from(path, Numbers { kv: KvType::F32, bf16: false }, Keep::Nothing)?;
    let bos = added_bos(&loaded.tokenizer);
    let watch = Watch::new();
    let go_on = || if watch.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };

    let mut bar = context.ui.count("writing a text", "tokens");
    let tokens = own_text(&mut *loaded.program, bos, &mut |done| {
        bar.set(done as u64, Some(OWN_CONTEXT as u64));
        go_on()
    });
    drop(bar);
    let tokens = tokens.map_err(told)?;

    let options = CalibrateOptions { context: OWN_CONTEXT, bos, products: true };
    let mut calibration = Calibration::new(&nodes, &options);
    let mut bar = context.ui.count("calibrating", "windows");
    let result = calibration.run(&mut *loaded.program, &tokens, &options, &mut |calibration, all| {
        bar.set(calibration.windows() as u64, Some(all as u64));
        go_on()
    });
    drop(bar);
    result.map_err(told)?;

    // Mapped, it needs no name.
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::Builder::new().prefix(".edgeling-").tempdir_in(folder);
    let work = work.with_context(|| format!("cannot write to {}", folder.display()))?;
    let file = work.path().join("own.gguf");
    calibration.write(&file, "own words", OWN_CONTEXT)?;
    Ok(Imatrix::open(&file)?)
}

fn told(error: CalibrateError) -> anyhow::Error {
    match error {
        CalibrateError::Interrupted => Interrupted.into(),
        error => error.into(),
    }
}
