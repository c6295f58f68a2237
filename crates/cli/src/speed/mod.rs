//! Speed and memory of a model, measured in a process of its own, so that no other model is in its way.

pub mod peer;
pub mod round;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow};
use pipeline::bench;
use serde::{Deserialize, Serialize};

use crate::context::Context;

/// What a run is like. What was not measured is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    pub prefill_tps: Option<f64>,
    pub decode_tps: Option<f64>,
    /// The most memory that the process held, its model's file included where that is mapped.
    pub memory_bytes: Option<u64>,
}

/// Lengths of the tests; 0 leaves one out.
#[derive(Clone, Copy)]
pub struct Lengths {
    pub prompt: u32,
    pub generate: u32,
}

/// Runs both tests once on the model at `path`.
///
/// # Errors
/// The model cannot be run.
pub fn measure(context: &Context, path: &Path, lengths: Lengths) -> Result<Speed> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let output = Command::new(program)
        .arg("measure")
        .arg(path)
        .args(["--prompt", &lengths.prompt.to_string(), "--generate", &lengths.generate.to_string()])
        .args(["--threads", &context.threads.to_string()])
        .arg("--home")
        .arg(context.home()?)
        .args(["--json", "--offline"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start this program once more")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return Err(anyhow!(said).context(format!("cannot measure {}: {}", path.display(), output.status)));
    }
    serde_json::from_slice(&output.stdout).context("a measurement gave no JSON")
}

/// The medians of several rounds, figure by figure; of the memory, the most.
pub fn medians(rounds: &[Speed]) -> Speed {
    Speed {
        prefill_tps: median(rounds.iter().filter_map(|speed| speed.prefill_tps).collect()),
        decode_tps: median(rounds.iter().filter_map(|speed| speed.decode_tps).collect()),
        memory_bytes: rounds.iter().filter_map(|speed| speed.memory_bytes).max(),
    }
}

/// The median of values in any order; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    bench::median(&values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_of_each_figure_alone() {
        let speed = |prefill, decode, memory| Speed {
            prefill_tps: Some(prefill),
            decode_tps: decode,
            memory_bytes: Some(memory),
        };
        let found = medians(&[speed(3.0, None, 5), speed(1.0, Some(8.0), 9), speed(2.0, Some(4.0), 7)]);
        assert_eq!(found, speed(2.0, Some(6.0), 9));
        assert_eq!(medians(&[]), Speed::default());
    }
}
