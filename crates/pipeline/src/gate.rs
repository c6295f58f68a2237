//! A quality gate: bounds that an evaluation must keep.
//!
//! A gate is a list such as `kl<0.02,top1>0.97`: a figure, `<` or `>`, and a bound; all of them must hold.

use std::fmt;
use std::str::FromStr;

use crate::evaluate::Evaluation;

/// A figure that a bound may name.
struct Figure {
    name: &'static str,
    of: fn(&Evaluation) -> Option<f64>,
}

static FIGURES: [Figure; 5] = [
    Figure { name: "kl", of: |e| e.kl_mean },
    Figure { name: "kl_p99", of: |e| e.kl_p99 },
    Figure { name: "kl_max", of: |e| e.kl_max },
    Figure { name: "top1", of: |e| e.top1_agreement },
    Figure { name: "ppl", of: |e| Some(e.perplexity) },
];

#[derive(Clone, Copy)]
struct Bound {
    figure: &'static Figure,
    below: bool,
    value: f64,
}

/// Bounds on an evaluation.
#[derive(Clone)]
pub struct Gate(Vec<Bound>);

/// What a gate cannot be read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("expected a figure, < or >, and a number, found {0:?}")]
    Form(String),
    #[error("expected one of {known}, found {found:?}", known = names())]
    Figure { found: String },
}

fn names() -> String {
    FIGURES.each_ref().map(|f| f.name).join(", ")
}

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Bound {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let form = || GateError::Form(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let name = text[..at].trim();
        let value = text[at + 1..].trim().parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(form)?;
        let figure =
            FIGURES.iter().find(|f| f.name == name).ok_or_else(|| GateError::Figure { found: name.to_owned() })?;
        Ok(Self { figure, below: text.as_bytes()[at] == b'<', value })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.figure.name, if self.below { '<' } else { '>' }, self.value)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

impl Gate {
    /// The bounds that `evaluation` breaks, each with what was found. A figure that was not measured breaks its bound.
    pub fn broken(&self, evaluation: &Evaluation) -> Vec<String> {
        let holds = |bound: &Bound, found: f64| if bound.below { found < bound.value } else { found > bound.value };
        self.0
            .iter()
            .filter_map(|bound| match (bound.figure.of)(evaluation) {
                Some(found) if holds(bound, found) => None,
                Some(found) => Some(format!("expected {bound}, found {found:.6}")),
                None => Some(format!("expected {bound}, found no such measurement")),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(kl: Option<f64>) -> Evaluation {
        Evaluation {
            perplexity: 20.0,
            perplexity_error: 0.1,
            tokens: 100,
            kl_mean: kl,
            kl_p99: kl,
            kl_max: kl,
            top1_agreement: kl.map(|_| 0.98),
            seconds: 1.0,
        }
    }

    #[test]
    fn all_bounds_must_hold() {
        let gate: Gate = "kl<0.02, top1>0.97,ppl<25".parse().unwrap();
        assert_eq!(gate.to_string(), "kl<0.02,top1>0.97,ppl<25");
        assert!(gate.broken(&evaluation(Some(0.01))).is_empty());
        assert_eq!(gate.broken(&evaluation(Some(0.02))), ["expected kl<0.02, found 0.020000"]);
        assert_eq!(gate.broken(&evaluation(Some(f64::NAN))).len(), 1);
        assert_eq!(gate.broken(&evaluation(None)).len(), 2);
    }

    #[test]
    fn what_is_no_gate_is_refused() {
        for text in ["", "kl", "kl=0.1", "kl<", "kl<x", "kl<nan", "<1", "kl<0.1,"] {
            assert!(text.parse::<Gate>().is_err(), "{text:?}");
        }
        assert_eq!("mse<1".parse::<Gate>().err(), Some(GateError::Figure { found: "mse".to_owned() }));
    }
}
