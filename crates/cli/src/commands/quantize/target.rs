//! `--target-bpw` and `--target-size`: types that make a file of that size, from what tensors are measured to do.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ArgGroup;
use formats::imatrix::Imatrix;
use formats::{Checkpoint, NewFile};
use kernels::backend::ProgramOptions;
use kernels::cpu::CpuBackend;
use kernels::simd::Tier;
use model::Model;
use model::tokenizer::EncodeOptions;
use pipeline::allocation::{Allocation, AllocationError, MeasureOptions, Settings, Table, allocate, measure};
use serde_json::{Value, json};

use crate::context::{Context, Numbers};
use crate::evaluation;
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};
use crate::ui::style::Style;
use crate::ui::table::{self, Align};

#[derive(clap::Args)]
#[command(group = ArgGroup::new("target").args(["target_bpw", "target_size"]).requires("text")
    .conflicts_with_all(["file_type", "pure", "tensor_type", "output_type", "embedding_type", "requantize"]))]
pub struct TargetArgs {
    /// Choose types that make a file of so many bits for each weight, by what they are measured to do; needs --text
    #[arg(long, value_name = "BITS", value_parser = bits)]
    target_bpw: Option<f64>,
    /// Choose types that make a file of this size, such as 400MB or 1.5GB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    target_size: Option<u64>,
    /// Windows of the text to measure on, evenly spread over it
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
    /// Keep what was measured in this file; if it is there, nothing is measured again
    #[arg(long, value_name = "F.json", value_hint = clap::ValueHint::FilePath, requires = "target")]
    table: Option<PathBuf>,
}

/// A number of bits for each weight.
fn bits(text: &str) -> Result<f64, String> {
    let bits = text.parse().ok().filter(|bits: &f64| bits.is_finite() && *bits > 0.0);
    bits.ok_or_else(|| "expected a number of bits above 0, such as 4.5".to_owned())
}

/// A size with a decimal unit, or a binary one.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("", 1.0),
        ("b", 1.0),
        ("k", 1e3),
        ("m", 1e6),
        ("g", 1e9),
        ("ki", 1024.0),
        ("mi", 1024.0 * 1024.0),
        ("gi", 1024.0 * 1024.0 * 1024.0),
        ("t", 1e12),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = unit.trim();
    let short = unit.strip_suffix('b').filter(|short| !short.is_empty()).unwrap_or(unit);
    let factor = UNITS.iter().find(|(name, _)| *name == short).map(|(_, factor)| *factor);
    let bytes = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let bytes = bytes.filter(|bytes| *bytes >= 1.0 && *bytes < 1e18);
    bytes.map(|bytes| bytes as u64).ok_or_else(|| "expected a size such as 400MB, 1.5GB or 380MiB".to_owned())
}

/// What was chosen, and from what.
pub struct Target {
    table: Table,
    pub allocation: Allocation,
}

impl TargetArgs {
    /// Measures what there is no table of, and chooses.
    pub fn choose(
        &self,
        context: &Context,
        path: &Path,
        text: &str,
        args: &super::Args,
        imatrix: Option<&Imatrix>,
    ) -> Result<Target> {
        let source = Checkpoint::open(path)?;
        let settings = Settings {
            text: super::digest(text.as_bytes()),
            imatrix: args.imatrix.as_deref().map(fs::read).transpose()?.map(|bytes| super::digest(&bytes)),
            effort: args.effort.into(),
            context: args.window.context as usize,
        };
        let table = match &self.table {
            Some(file) if file.exists() => Table::read(file, &source, &settings).map_err(told)?,
            _ => self.measure(context, path, text, settings, imatrix)?,
        };
        let values: usize = source.tensors().map(|info| info.elements()).sum();
        let bytes = self.target_bpw.map(|bits| (bits * values as f64 / 8.0) as u64).or(self.target_size);
        let allocation = allocate(&source, &table, bytes.unwrap_or(u64::MAX) as usize).map_err(told)?;
        Ok(Target { table, allocation })
    }

    fn measure(
        &self,
        context: &Context,
        path: &Path,
        text: &str,
        settings: Settings,
        imatrix: Option<&Imatrix>,
    ) -> Result<Table> {
        let tier = Tier::detect()?;
        let backend = CpuBackend::new(tier).with_context(|| format!("this CPU lacks {}", tier.name()))?;
        let source = Checkpoint::open(path)?;
        let tokenizer = Model::load(&source)?.tokenizer;
        let tokens = tokenizer.encode(text, EncodeOptions::TEXT);
        let threads = context.threads;
        let Numbers { kv, bf16 } = Numbers::default();
        let options = MeasureOptions {
            settings,
            bos: evaluation::added_bos(&tokenizer),
            windows: self.windows as usize,
            program: ProgramOptions { kv, threads, bf16 },
            imatrix,
        };
        let watch = Watch::new();
        let mut bar = context.ui.count("measuring", "groups of tensors");
        let result = measure(source, &backend, &tokens, &options, &mut |(done, all)| {
            bar.set(done as u64, Some(all as u64));
            if watch.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        drop(bar);
        let table = result.map_err(told)?;
        if let Some(file) = &self.table {
            let mut new = NewFile::create(file)?;
            new.write(&serde_json::to_vec_pretty(&table)?)?;
            new.finish()?;
        }
        Ok(table)
    }
}

fn told(error: AllocationError) -> anyhow::Error {
    match (&error, error.hint()) {
        (AllocationError::Interrupted, _) => Interrupted.into(),
        (_, Some(hint)) => Hinted::new(error.to_string(), hint).into(),
        _ => error.into(),
    }
}

impl Target {
    /// The table with what was chosen from it.
    pub fn json(&self) -> Value {
        let chosen: Vec<_> = self.allocation.chosen.iter().map(|dtype| dtype.name).collect();
        json!({ "kl_estimated": self.allocation.kl, "chosen": chosen, "table": self.table })
    }

    /// A line for each group of tensors that were measured together.
    pub fn rendered(&self, style: Style) -> String {
        let columns =
            [("tensors", Align::Left), ("measured as", Align::Left), ("KL", Align::Right), ("chosen", Align::Left)];
        let mut out = table::Table::new(&columns);
        let groups = self.table.tensors.iter().map(|row| row.group).max().map_or(0, |last| last + 1);
        for group in 0..groups {
            let members = self.table.tensors.iter().zip(&self.allocation.chosen).filter(|(row, _)| row.group == group);
            let members: Vec<_> = members.collect();
            let Some(((first, _), (last, _))) = members.first().zip(members.last()) else { continue };
            let names = match members.len() {
                1 => first.tensor.clone(),
                _ => format!("{} … {}", first.tensor, last.tensor),
            };
            let mut chosen: Vec<(&str, usize)> = Vec::new();
            for (_, dtype) in &members {
                match chosen.iter_mut().find(|(name, _)| *name == dtype.name) {
                    Some((_, count)) => *count += 1,
                    None => chosen.push((dtype.name, 1)),
                }
            }
            let chosen: Vec<_> = chosen.into_iter().map(|(name, count)| format!("{count} × {name}")).collect();
            out.row([names, first.measured.clone(), format!("{:.6}", first.kl), chosen.join(", ")]);
        }
        out.render(style) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_either_kind() {
        assert_eq!(size("400MB"), Ok(400_000_000));
        assert_eq!(size("1.5 gb"), Ok(1_500_000_000));
        assert_eq!(size("2KiB"), Ok(2048));
        assert_eq!(size("91726912"), Ok(91_726_912));
        assert_eq!(size("12b"), Ok(12));
        assert_eq!(size("3G"), Ok(3_000_000_000));
        for wrong in ["", "MB", "4XB", "-3MB", "0", "1e3MB", "1.2.3GB", "nanMB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bits("4.5"), Ok(4.5));
        for wrong in ["0", "-1", "inf", "NaN", "four"] {
            assert!(bits(wrong).is_err(), "{wrong}");
        }
    }
}
