//! The engine on a program without arithmetic, where a wrong page, a lost or a stale position changes every later token.

use kernels::backend::{Output, Ticket};
use model::sampler::{Sampler, SamplingParams};
use proptest::prelude::*;

use super::*;
use crate::testing::{HashProgram, PAGE, VOCAB, hashed_logits};

fn engine(context: usize, max_batch_tokens: usize, max_sequences: usize) -> Engine {
    let options = EngineOptions { context, max_batch_tokens, max_sequences };
    Engine::new(Box::<HashProgram>::default(), options).unwrap()
}

fn request(tokens: &[u32], max_tokens: usize) -> Request {
    Request { tokens: tokens.to_vec(), params: SamplingParams::default(), max_tokens, stop_tokens: vec![] }
}

/// What the request must give, computed alone and without pages.
fn expected(request: &Request, context: usize) -> (Vec<u32>, FinishReason) {
    let mut sampler = Sampler::new(request.params.clone()).unwrap();
    let mut tokens = request.tokens.clone();
    let prompt = tokens.len();
    let reason = loop {
        let token = sampler.sample(&hashed_logits(&tokens), &tokens, tokens.len() as u64).unwrap();
        if request.stop_tokens.contains(&token) {
            break FinishReason::Stop;
        }
        tokens.push(token);
        if tokens.len() == prompt + request.max_tokens {
            break FinishReason::Length;
        }
        if tokens.len() > context {
            break FinishReason::Context;
        }
    };
    (tokens.split_off(prompt), reason)
}

/// Steps until nothing is left; panics if that takes absurdly long.
fn drain(engine: &mut Engine) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..10_000 {
        if engine.is_idle() {
            return events;
        }
        events.extend(engine.step().unwrap());
    }
    panic!("the engine does not come to rest");
}

fn tokens_of(events: &[Event], of: RequestId) -> Vec<u32> {
    let token = |e: &Event| match e {
        Event::Token { id, token, .. } if *id == of => Some(*token),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

fn reason_of(events: &[Event], of: RequestId) -> Option<FinishReason> {
    events.iter().find_map(|e| match e {
        Event::Finished { id, reason } if *id == of => Some(*reason),
        _ => None,
    })
}

fn reused_of(events: &[Event], of: RequestId) -> Option<usize> {
    events.iter().find_map(|e| match e {
        Event::Started { id, reused } if *id == of => Some(*reused),
        _ => None,
    })
}

#[test]
fn admission_refuses_what_cannot_run() {
    let mut e = engine(8, 4, 2);
    assert_eq!(e.submit(request(&[], 1)), Err(AdmissionError::EmptyPrompt));
    assert_eq!(e.submit(request(&[1; 9], 1)), Err(AdmissionError::PromptTooLong { tokens: 9, context: 8 }));
    let unknown = AdmissionError::UnknownToken { token: 23, position: 1, vocab: VOCAB };
    assert_eq!(e.submit(request(&[1, 23], 1)), Err(unknown));
    assert_eq!(e.submit(request(&[1], 0)), Err(AdmissionError::NothingToGenerate));
    let bad = SamplingParams { temperature: -1.0, ..SamplingParams::default() };
    assert!(matches!(e.submit(Request { params: bad, ..request(&[1], 1) }), Err(AdmissionError::Sampling(_))));
    assert!(e.is_idle());
}

#[test]
fn options_are_checked() {
    let make = |context, max_batch_tokens, max_sequences| {
        let options = EngineOptions { context, max_batch_tokens, max_sequences };
        Engine::new(Box::<HashProgram>::default(), options).err().map(|e| e.to_string())
    };
    assert_eq!(make(1, 2, 2), None);
    assert_eq!(make(0, 2, 2).unwrap(), "context is 0, at least 1 was expected");
    assert_eq!(make(1, 2, 0).unwrap(), "max_sequences is 0, at least 1 was expected");
    assert_eq!(make(1, 2, 3).unwrap(), "max_batch_tokens is 2, at least 3 was expected");
}

#[test]
fn a_sequence_ends_where_the_context_does() {
    let mut e = engine(8, 4, 1);
    let full = e.submit(request(&[3; 8], 50)).unwrap();
    let events = drain(&mut e);
    // The last position's logits still give a token; that token has no position.
    assert_eq!((tokens_of(&events, full).len(), reason_of(&events, full)), (1, Some(FinishReason::Context)));
    let shorter = e.submit(request(&[3; 5], 50)).unwrap();
    assert_eq!(tokens_of(&drain(&mut e), shorter).len(), 4);
}

#[test]
fn a_stop_token_ends_the_answer_and_is_no_part_of_it() {
    let plain = request(&[5, 6], 9);
    let (tokens, _) = expected(&plain, 64);
    let mut e = engine(64, 16, 1);
    let id = e.submit(Request { stop_tokens: vec![tokens[3]], ..plain }).unwrap();
    let events = drain(&mut e);
    let until = tokens.iter().position(|&t| t == tokens[3]).unwrap();
    assert_eq!((tokens_of(&events, id), reason_of(&events, id)), (tokens[..until].to_vec(), Some(FinishReason::Stop)));
}

#[test]
fn a_chat_turn_computes_only_what_is_new() {
    let program = HashProgram::default();
    let computed = program.computed.clone();
    let options = EngineOptions { context: 64, max_batch_tokens: 64, max_sequences: 1 };
    let mut e = Engine::new(Box::new(program), options).unwrap();
    let mut history = vec![1, 2, 3, 4, 5];
    let mut stored = 0;
    for turn in 0..4 {
        let before = computed.load(std::sync::atomic::Ordering::Relaxed);
        let r = request(&history, 6);
        let (answer, _) = expected(&r, 64);
        let id = e.submit(r).unwrap();
        let events = drain(&mut e);
        assert_eq!(reused_of(&events, id), Some(stored), "turn {turn}");
        assert_eq!(tokens_of(&events, id), answer, "turn {turn}");
        history.extend(answer);
        // The last token drawn is not computed; everything else is, and no position twice.
        let now = computed.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(now - before, history.len() - 1 - stored, "turn {turn}");
        stored = history.len() - 1;
        history.extend([7, 8]);
    }
}

#[test]
fn a_prefix_shared_in_part_of_a_page_is_copied_not_overwritten() {
    let mut e = engine(32, 32, 2);
    let a: Vec<u32> = (0..11).collect();
    e.submit(request(&a, 1)).unwrap();
    drain(&mut e);
    // Two requests leave the kept sequence at position 6, inside its second page.
    let mut b = a[..6].to_vec();
    b.extend([20, 21]);
    let mut c = a[..6].to_vec();
    c.extend([18, 17, 16]);
    let requests = [request(&b, 8), request(&c, 8), request(&a, 8)];
    let ids = requests.clone().map(|r| e.submit(r).unwrap());
    let events = drain(&mut e);
    for (id, r) in ids.iter().zip(&requests) {
        assert_eq!(tokens_of(&events, *id), expected(r, 32).0);
    }
    assert_eq!(ids.map(|id| reused_of(&events, id).unwrap()), [6, 6, 10]);
}

#[test]
fn a_prefix_with_states_reaches_up_to_a_copy() {
    let options = EngineOptions { context: 64, max_batch_tokens: 7, max_sequences: 2 };
    let mut e = Engine::new(Box::new(HashProgram::with_states()), options).unwrap();
    let mut ask = |tokens: &[u32]| {
        let r = request(tokens, 3);
        let id = e.submit(r.clone()).unwrap();
        let events = drain(&mut e);
        let answer = tokens_of(&events, id);
        assert_eq!(answer, expected(&r, 64).0, "{tokens:?}");
        (reused_of(&events, id).unwrap(), answer)
    };
    let prompt: Vec<u32> = (0..15).collect();
    let (reused, answer) = ask(&prompt);
    assert_eq!(reused, 0);
    // The next turn goes on where the last one ended: its last token was drawn, not computed.
    let next = [&prompt[..], &answer, &[20, 21]].concat();
    assert_eq!(ask(&next).0, prompt.len() + answer.len() - 1);
    // The same prompt begins at the last page that it filled before its end.
    assert_eq!(ask(&prompt).0, 12);
    // What leaves the prompt early finds no copy, but leaves one for those after it.
    let other = |last: u32| [&prompt[..10], &[last; 5]].concat();
    assert_eq!(ask(&other(17)).0, 0);
    assert_eq!(ask(&other(18)).0, 8);
}

#[test]
fn a_cancelled_request_ends_once() {
    let mut e = engine(32, 8, 1);
    let running = e.submit(request(&[1, 2], 20)).unwrap();
    let waiting = e.submit(request(&[1, 3], 20)).unwrap();
    e.step().unwrap();
    assert!(e.cancel(running) && e.cancel(waiting));
    assert!(!e.cancel(running));
    let events = drain(&mut e);
    assert_eq!(events, [running, waiting].map(|id| Event::Finished { id, reason: FinishReason::Cancelled }));
}

#[test]
fn logits_without_a_token_fail_their_request_only() {
    struct Nan(HashProgram);
    impl Program for Nan {
        fn vocab(&self) -> usize {
            self.0.vocab()
        }
        fn page_positions(&self) -> usize {
            self.0.page_positions()
        }
        fn page_bytes(&self) -> usize {
            self.0.page_bytes()
        }
        fn pages(&self) -> usize {
            self.0.pages()
        }
        fn reserve(&mut self, pages: usize) -> Result<(), BackendError> {
            self.0.reserve(pages)
        }
        fn copy_page(&mut self, from: u32, to: u32) {
            self.0.copy_page(from, to);
        }
        fn submit(&mut self, batch: &[Span]) -> Result<Ticket, BackendError> {
            self.0.submit(batch)
        }
        fn poll(&mut self, ticket: Ticket) -> Result<Option<Output>, BackendError> {
            let mut output = self.0.poll(ticket)?;
            output.iter_mut().for_each(|o| o.logits[2] = f32::NAN); // The batch's first sequence.
            Ok(output)
        }
    }
    let options = EngineOptions { context: 32, max_batch_tokens: 32, max_sequences: 2 };
    let mut e = Engine::new(Box::new(Nan(HashProgram::default())), options).unwrap();
    let ids = [e.submit(request(&[1], 2)).unwrap(), e.submit(request(&[2], 1)).unwrap()];
    let events = drain(&mut e);
    assert!(events.iter().any(|e| matches!(e, Event::Failed { id, .. } if *id == ids[0])));
    assert_eq!(reason_of(&events, ids[1]), Some(FinishReason::Length));
}

proptest! {
    /// Requests that share prefixes, come at any time, are cancelled at any time, in a cache too small for all of them.
    #[test]
    fn every_request_gets_what_it_would_alone(
        requests in prop::collection::vec((0usize..3, 0usize..14, 0u32..3, 1usize..20, any::<u64>(), 0usize..6), 1..14),
        budget in 3usize..40,
        sequences in 1usize..4,
        with_states in any::<bool>(),
        cancels in prop::collection::vec((0usize..14, 0usize..40), 0..4),
    ) {
        let context = 24;
        let options = EngineOptions { context, max_batch_tokens: budget.max(sequences), max_sequences: sequences };
        let program = if with_states { HashProgram::with_states() } else { HashProgram::default() };
        let mut e = Engine::new(Box::new(program), options).unwrap();
        let mut events = Vec::new();
        let mut asked = Vec::new();
        for (trunk, length, tail, max_tokens, seed, pause) in requests {
            let mut tokens: Vec<u32> = (0..length as u32).map(|i| (i * i + trunk as u32) % 20).collect();
            tokens.push(tail);
            let params = SamplingParams { seed, temperature: 1.5, ..SamplingParams::default() };
            let r = Request { tokens, params, max_tokens, stop_tokens: vec![0] };
            asked.push((e.submit(r.clone()).unwrap(), r));
            for _ in 0..pause {
                events.extend(e.step().unwrap());
            }
            for (which, _) in cancels.iter().filter(|c| c.1 == events.len() % 40) {
                asked.get(*which).map(|(id, _)| e.cancel(*id));
            }
        }
        events.extend(drain(&mut e));
        for (id, r) in &asked {
            let (tokens, reason) = expected(r, context);
            match reason_of(&events, *id) {
                Some(FinishReason::Cancelled) => prop_assert!(tokens.starts_with(&tokens_of(&events, *id))),
                found => prop_assert_eq!((tokens_of(&events, *id), found), (tokens, Some(reason))),
            }
            let ends = events.iter().filter(|e| e.id() == *id && !matches!(e, Event::Token { .. } | Event::Started { .. }));
            prop_assert_eq!(ends.count(), 1);
        }
        // Nothing but kept prefixes holds pages, and each can be let go of.
        prop_assert!(e.pool.held() <= sequences * context.div_ceil(PAGE));
        while e.prefixes.evict(&mut e.pool, &mut e.states) {}
        prop_assert_eq!(e.pool.held(), 0);
        prop_assert_eq!(e.states.as_ref().map_or(0, StatePool::held), 0);
    }
}
