use std::ops::ControlFlow;

use super::*;
use crate::testing::{HashProgram, VOCAB, hashed_logits};

const OPTIONS: EvaluateOptions = EvaluateOptions { context: 10, bos: Some(1), threads: 2 };

fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i + 3) % VOCAB as u32).collect()
}

fn program(salt: u64) -> HashProgram {
    HashProgram { salt, ..HashProgram::default() }
}

fn evaluate_plain(tokens: &[u32], options: &EvaluateOptions) -> Result<Evaluation, EvaluateError> {
    evaluate(&mut program(1), None, tokens, options, &mut |_| ControlFlow::Continue(()))
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
    logits.iter().map(|v| f64::from(*v) - sum.ln()).collect()
}

/// Log-probabilities at each scored position under `salt`, with the token that follows: windows of 10, positions 5 to 8.
fn scored(tokens: &[u32], salt: u64, bos: Option<u32>) -> Vec<(Vec<f64>, usize)> {
    let mut out = Vec::new();
    for window in tokens.chunks_exact(10) {
        let mut seen = window.to_vec();
        seen[0] = bos.unwrap_or(seen[0]);
        out.extend((5..=8).map(|p| (log_softmax(&hashed_logits(salt, &seen[..=p])), window[p + 1] as usize)));
    }
    out
}

#[test]
fn scores_the_second_half_of_each_window() {
    for bos in [None, Some(1)] {
        let tokens = text(37);
        let found = evaluate_plain(&tokens, &EvaluateOptions { bos, ..OPTIONS }).unwrap();
        let nll: Vec<f64> = scored(&tokens, 1, bos).iter().map(|(p, token)| -p[*token]).collect();
        assert_eq!((found.tokens, nll.len()), (12, 12));
        let mean = nll.iter().sum::<f64>() / 12.0;
        let variance = nll.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 12.0;
        assert!((found.perplexity - mean.exp()).abs() < 1e-5, "{}", found.perplexity);
        assert!((found.perplexity_error - mean.exp() * (variance / 11.0).sqrt()).abs() < 1e-5);
        assert_eq!((found.kl_mean, found.kl_p99, found.kl_max, found.top1_agreement), (None, None, None, None));
    }
}

#[test]
fn compares_with_the_base_at_the_same_positions() {
    let tokens = text(100);
    let mut base = program(2);
    let found =
        evaluate(&mut program(1), Some(&mut base), &tokens, &OPTIONS, &mut |_| ControlFlow::Continue(())).unwrap();
    let (own, other) = (scored(&tokens, 1, Some(1)), scored(&tokens, 2, Some(1)));
    let pairs = || other.iter().zip(&own).map(|((p, _), (q, _))| (p, q));
    let mut kl: Vec<f64> = pairs().map(|(p, q)| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()).collect();
    kl.sort_by(f64::total_cmp);
    let n = kl.len();
    assert_eq!(n, 40);
    assert!((found.kl_mean.unwrap() - kl.iter().sum::<f64>() / n as f64).abs() < 1e-5);
    assert!((found.kl_max.unwrap() - kl[n - 1]).abs() < 1e-5);
    // 0.99 · 39 = 38.61
    assert!((found.kl_p99.unwrap() - (kl[38] + 0.61 * (kl[39] - kl[38]))).abs() < 1e-5);
    let top = |p: &[f64]| (0..VOCAB).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
    let same = pairs().filter(|(p, q)| top(p) == top(q)).count();
    assert_eq!(found.top1_agreement, Some(same as f64 / n as f64));
}

/// Evaluates programs of these salts against the base's logits, kept in files of `bytes`; the windows of each.
fn evaluate_kept(salts: &[u64], tokens: &[u32], bytes: u64) -> (Vec<Evaluation>, Vec<usize>) {
    let mut tallies = vec![Tally::default(); salts.len()];
    let (mut done, mut parts) = (0, Vec::new());
    while done < tokens.len() / OPTIONS.context {
        let kept =
            Kept::new(&mut program(2), tokens, &OPTIONS, done, bytes, &mut |_| ControlFlow::Continue(())).unwrap();
        for (tally, salt) in tallies.iter_mut().zip(salts) {
            let go_on = &mut |_| ControlFlow::Continue(());
            tally.add(&mut program(*salt), &kept, tokens, &OPTIONS, go_on).unwrap();
        }
        parts.push(kept.windows().len());
        done = kept.windows().end;
    }
    (tallies.iter().map(Tally::finish).collect(), parts)
}

#[test]
fn a_base_that_is_kept_gives_the_same_figures() {
    let tokens = text(77);
    let window = (4 * VOCAB * size_of::<f32>()) as u64;
    for (bytes, windows) in [(0, vec![1; 7]), (3 * window, vec![3, 3, 1]), (u64::MAX, vec![7])] {
        let (found, parts) = evaluate_kept(&[1, 2, 3], &tokens, bytes);
        assert_eq!(parts, windows);
        for (found, salt) in found.into_iter().zip([1, 2, 3]) {
            let mut base = program(2);
            let go_on = &mut |_| ControlFlow::Continue(());
            let live = evaluate(&mut program(salt), Some(&mut base), &tokens, &OPTIONS, go_on).unwrap();
            assert_eq!(found, Evaluation { seconds: found.seconds, ..live });
        }
    }
}

#[test]
fn a_kept_base_is_refused_where_a_running_one_is() {
    let kept =
        |tokens: &[u32]| Kept::new(&mut program(2), tokens, &OPTIONS, 0, u64::MAX, &mut |_| ControlFlow::Continue(()));
    let error = kept(&text(9)).err().unwrap().to_string();
    assert_eq!(error, "the text has 9 tokens, at least one window of 10 was expected");
    let broken_off = Kept::new(&mut program(2), &text(37), &OPTIONS, 0, u64::MAX, &mut |_| ControlFlow::Break(()));
    assert!(matches!(broken_off, Err(EvaluateError::Interrupted)));

    let tokens = vec![6; 10];
    let kept = kept(&tokens).unwrap();
    let mut poisoned = HashProgram { poison: Some(6), ..HashProgram::default() };
    let go_on = &mut |_| ControlFlow::Continue(());
    let error = Tally::default().add(&mut poisoned, &kept, &tokens, &OPTIONS, go_on).unwrap_err();
    assert_eq!(error.to_string(), "the logits after position 5 of the text are not numbers");
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let found =
        evaluate(&mut program(1), Some(&mut program(1)), &text(40), &OPTIONS, &mut |_| ControlFlow::Continue(()))
            .unwrap();
    assert_eq!((found.kl_mean, found.kl_max, found.top1_agreement), (Some(0.0), Some(0.0), Some(1.0)));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let with = |threads| {
        let options = EvaluateOptions { threads, ..OPTIONS };
        evaluate(&mut program(1), Some(&mut program(2)), &text(60), &options, &mut |_| ControlFlow::Continue(()))
            .unwrap()
    };
    let (one, seven) = (with(1), with(7));
    assert_eq!(one, Evaluation { seconds: one.seconds, ..seven });
}

#[test]
fn progress_counts_windows_and_ends_at_the_result() {
    let mut told = Vec::new();
    let found = evaluate(&mut program(1), None, &text(37), &OPTIONS, &mut |p| {
        told.push(p);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(told.iter().map(|p| p.windows).collect::<Vec<_>>(), [(1, 3), (2, 3), (3, 3)]);
    assert_eq!(told[2].perplexity, found.perplexity);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let message = |tokens: &[u32], options| evaluate_plain(tokens, &options).unwrap_err().to_string();
    assert_eq!(message(&text(9), OPTIONS), "the text has 9 tokens, at least one window of 10 was expected");
    let short = EvaluateOptions { context: 7, ..OPTIONS };
    assert_eq!(message(&text(9), short), "a window of 7 tokens was asked for, at least 8 were expected");
    let mut unknown = text(30);
    unknown[17] = 99;
    assert_eq!(message(&unknown, OPTIONS), "token 99 at position 17 is outside the vocabulary of 13");

    let mut poisoned = HashProgram { poison: Some(6), ..HashProgram::default() };
    let mut tokens = vec![2; 20];
    tokens[17] = 6;
    let error = evaluate(&mut poisoned, None, &tokens, &OPTIONS, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "the logits after position 17 of the text are not numbers");
}

#[test]
fn the_result_is_written_with_its_agreed_names() {
    let found = evaluate_plain(&text(37), &OPTIONS).unwrap();
    let json = serde_json::to_value(&found).unwrap();
    let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let agreed =
        ["perplexity", "perplexity_error", "tokens", "kl_mean", "kl_p99", "kl_max", "top1_agreement", "seconds"];
    assert_eq!(names, agreed);
}

#[test]
fn an_evaluation_can_be_broken_off() {
    let error = evaluate(&mut program(1), None, &text(37), &OPTIONS, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, EvaluateError::Interrupted));
}
