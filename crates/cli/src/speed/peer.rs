//! Another program's speed, from the JSON that llama-bench prints.

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::{Lengths, Speed};

/// A command that takes llama-bench's arguments and prints its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    program: String,
    args: Vec<String>,
}

impl FromStr for Peer {
    type Err = String;

    /// Reads a command line with the quotes of a shell.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = shlex::split(text).ok_or("expected a command, found a quote that does not end")?.into_iter();
        let program = words.next().ok_or("expected a command, found nothing")?;
        Ok(Self { program, args: words.collect() })
    }
}

/// A result in llama-bench's JSON.
#[derive(Deserialize)]
struct Row {
    n_prompt: u32,
    n_gen: u32,
    avg_ts: f64,
}

impl Peer {
    /// The program's name and what the user gave with it.
    pub fn name(&self) -> String {
        let program = Path::new(&self.program).file_name().map_or_else(Default::default, |n| n.to_string_lossy());
        std::iter::once(&*program).chain(self.args.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }

    /// Runs both tests once on the model at `path`.
    ///
    /// # Errors
    /// The program does not start, fails, or prints something else.
    pub fn measure(&self, path: &Path, lengths: Lengths, threads: usize) -> Result<Speed> {
        let output = Command::new(&self.program)
            .args(&self.args)
            .arg("-m")
            .arg(path)
            .args(["-p", &lengths.prompt.to_string(), "-n", &lengths.generate.to_string()])
            .args(["-t", &threads.to_string(), "-r", "1", "-o", "json"])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.program))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
            return Err(anyhow!(said).context(format!("{} failed: {}", self.name(), output.status)));
        }
        speed(&output.stdout, lengths).with_context(|| format!("{} did not print llama-bench's JSON", self.name()))
    }
}

fn speed(json: &[u8], lengths: Lengths) -> Result<Speed> {
    let rows: Vec<Row> = serde_json::from_slice(json)?;
    let rate = |prompt, generate| {
        let row = rows.iter().find(|row| (row.n_prompt, row.n_gen) == (prompt, generate));
        let rate = row.map(|row| row.avg_ts).filter(|rate| rate.is_finite() && *rate > 0.0);
        match rate {
            _ if prompt + generate == 0 => Ok(None),
            Some(rate) => Ok(Some(rate)),
            None => {
                Err(anyhow!("expected a result for {prompt} prompt tokens and {generate} generated ones, found none"))
            }
        }
    };
    Ok(Speed { prefill_tps: rate(lengths.prompt, 0)?, decode_tps: rate(0, lengths.generate)?, memory_bytes: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: Lengths = Lengths { prompt: 512, generate: 128 };

    #[test]
    fn results_are_found_by_their_lengths() {
        let row = |p, n, tps: f64| format!(r#"{{"n_prompt":{p},"n_gen":{n},"avg_ts":{tps},"build_commit":"x"}}"#);
        let both = format!("[{},{}]", row(512, 0, 400.5), row(0, 128, 70.25));
        let found = speed(both.as_bytes(), LENGTHS).unwrap();
        assert_eq!((found.prefill_tps, found.decode_tps), (Some(400.5), Some(70.25)));
        let decode = Lengths { prompt: 0, ..LENGTHS };
        assert_eq!(speed(both.as_bytes(), decode).unwrap().prefill_tps, None);
        let other = format!("[{}]", row(256, 0, 1.0));
        assert!(speed(other.as_bytes(), LENGTHS).unwrap_err().to_string().contains("512"));
        assert!(speed(b"pp512 100", LENGTHS).is_err());
    }

    #[test]
    fn a_peer_is_a_command_line() {
        let peer: Peer = "'/opt/my bench/llama-bench' -fa 1".parse().unwrap();
        assert_eq!((peer.program.as_str(), peer.name().as_str()), ("/opt/my bench/llama-bench", "llama-bench -fa 1"));
        assert!("".parse::<Peer>().is_err() && "'x".parse::<Peer>().is_err());
    }
}
