//! Rounds: this program and its peers in turn, with the machine's roofs measured between them.

use std::path::Path;

use anyhow::Result;
use kernels::roof::{Roof, measure as roofs};
use kernels::simd::Tier;
use pipeline::bench::{Cost, Test};
use serde::Serialize;

use super::peer::Peer;
use super::{Lengths, Speed, measure, median};
use crate::context::Context;
use crate::interrupt::winding_up;

/// One test of this program beside its peers; rates are tokens per second.
#[derive(Clone, Debug, Serialize)]
pub struct PairedRow {
    /// `pp512`, `tg128`.
    pub test: String,
    pub threads: usize,
    pub batch: usize,
    #[serde(flatten)]
    pub rates: Rates,
    /// The rate at which the memory or the arithmetic of the machine would be used in full: the median of the rounds.
    pub roof: f64,
    /// The median of the rounds' shares of their own roofs.
    pub share: f64,
    pub against: Vec<PeerRow>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PeerRow {
    pub command: String,
    #[serde(flatten)]
    pub rates: Rates,
    pub share: f64,
    /// How many times as fast this program is: the median of the rounds' ratios.
    pub ratio: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    pub tps_median: f64,
    pub tps_min: f64,
    pub tps_max: f64,
}

/// What one round found.
struct Round {
    own: Speed,
    peers: Vec<Speed>,
    /// Before and after.
    roofs: [Roof; 2],
}

/// Runs this program and its peers in turn, `repeat` times over.
///
/// # Errors
/// A program that fails, or Ctrl-C.
pub fn paired(
    context: &Context,
    path: &Path,
    peers: &[Peer],
    cost: &Cost,
    lengths: Lengths,
    repeat: u32,
) -> Result<Vec<PairedRow>> {
    let tier = Tier::detect()?;
    let roof = || Ok::<_, anyhow::Error>(roofs(tier, &[context.threads])?[0]);
    let mut bar = context.ui.count("measuring", "rounds");
    let mut rounds = Vec::new();
    let mut before = roof()?;
    for done in 0..repeat {
        bar.set(u64::from(done), Some(u64::from(repeat)));
        bar.message("edgeling".to_owned());
        let own = winding_up(|| measure(context, path, lengths))?;
        let mut found = Vec::new();
        for peer in peers {
            bar.message(peer.name());
            found.push(winding_up(|| peer.measure(path, lengths, context.threads))?);
        }
        let after = roof()?;
        rounds.push(Round { own, peers: found, roofs: [before, after] });
        before = after;
    }
    drop(bar);
    let tests = [
        (Test::Prefill(lengths.prompt as usize), (|speed| speed.prefill_tps) as fn(&Speed) -> Option<f64>),
        (Test::Decode(lengths.generate as usize), |speed| speed.decode_tps),
    ];
    Ok(tests.into_iter().filter_map(|(test, of)| row(test, of, &rounds, peers, cost)).collect())
}

/// A test's row, if it was run.
fn row(test: Test, of: fn(&Speed) -> Option<f64>, rounds: &[Round], peers: &[Peer], cost: &Cost) -> Option<PairedRow> {
    let own: Vec<f64> = rounds.iter().filter_map(|round| of(&round.own)).collect();
    let highest: Vec<f64> =
        rounds.iter().map(|round| round.roofs.iter().map(|roof| test.roof(cost, 1, roof)).sum::<f64>() / 2.0).collect();
    let over = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    let against = peers.iter().enumerate().filter_map(|(i, peer)| {
        let theirs: Vec<f64> = rounds.iter().filter_map(|round| of(&round.peers[i])).collect();
        let rates = Rates::of(&theirs)?;
        Some(PeerRow { command: peer.name(), rates, share: over(&theirs, &highest)?, ratio: over(&own, &theirs)? })
    });
    Some(PairedRow {
        test: test.name(),
        threads: rounds.first()?.roofs[0].threads,
        batch: 1,
        rates: Rates::of(&own)?,
        share: over(&own, &highest)?,
        against: against.collect(),
        roof: median(highest)?,
    })
}

impl Rates {
    fn of(rates: &[f64]) -> Option<Self> {
        Some(Self {
            tps_median: median(rates.to_vec())?,
            tps_min: rates.iter().copied().reduce(f64::min)?,
            tps_max: rates.iter().copied().reduce(f64::max)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use pipeline::bench::Operations;

    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let roof = |read| Roof { threads: 2, read, int8: 1e12, f32: 1e11, bf16: None };
        let speed = |decode| Speed { decode_tps: Some(decode), ..Speed::default() };
        // A machine that becomes half as fast: the ratio stays.
        let round = |fast: f64| Round {
            own: speed(80.0 * fast),
            peers: vec![speed(40.0 * fast)],
            roofs: [roof(1e8 * fast), roof(1e8 * fast)],
        };
        let rounds = [round(1.0), round(0.5), round(0.25)];
        let cost = Cost { bytes: 1e6, layers: Operations::default(), head: Operations::default() };
        let peers = ["llama-bench".parse().unwrap()];
        let found = row(Test::Decode(8), |speed| speed.decode_tps, &rounds, &peers, &cost).unwrap();
        assert_eq!((found.rates.tps_median, found.rates.tps_min, found.rates.tps_max), (40.0, 20.0, 80.0));
        assert_eq!((found.roof, found.share), (50.0, 0.8));
        assert_eq!((found.against[0].ratio, found.against[0].share), (2.0, 0.4));
        assert!(row(Test::Prefill(8), |speed| speed.prefill_tps, &rounds, &peers, &cost).is_none());
    }
}
