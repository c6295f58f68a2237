//! The engine on the CPU backend with a real, if tiny, model: company in the batch, chunking, kept prefixes and copied pages
//! change no token.

use std::path::Path;

use engine::{Engine, EngineOptions, Event, Request, RequestId};
use kernels::backend::{Backend, ProgramOptions};
use kernels::cpu::CpuBackend;
use kernels::simd::Tier;
use model::Model;
use model::sampler::SamplingParams;

fn engine(case: &str, max_batch_tokens: usize, max_sequences: usize) -> Engine {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints").join(case);
    let model = Model::open(&folder).unwrap();
    let tier = Tier::all_available().last().unwrap();
    let options = ProgramOptions { kv: Default::default(), threads: max_sequences, bf16: false };
    let program = CpuBackend::new(tier).unwrap().compile(model.plan, &options, &mut |_, _| ()).unwrap();
    Engine::new(program, EngineOptions { context: 256, max_batch_tokens, max_sequences }).unwrap()
}

fn drain(engine: &mut Engine) -> Vec<Event> {
    let mut events = Vec::new();
    while !engine.is_idle() {
        events.extend(engine.step().unwrap());
    }
    events
}

fn tokens_of(events: &[Event], of: RequestId) -> Vec<u32> {
    let token = |e: &Event| match e {
        Event::Token { id, token, .. } if *id == of => Some(*token),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

#[test]
fn answers_do_not_depend_on_company_or_history() {
    // Keys and values alone, and beside two kinds of states.
    for case in ["qwen3", "lfm2", "qwen35"] {
        answers_of(case);
    }
}

fn answers_of(case: &str) {
    let trunk: Vec<u32> = (0..150).map(|i| i * 5 % 260).collect();
    let request = |shared: usize, tail: u32, seed| {
        let tokens = [&trunk[..shared], &[tail; 9]].concat();
        let params = SamplingParams { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Default::default() };
        Request { tokens, params, max_tokens: 30, stop_tokens: vec![] }
    };
    let requests = [request(150, 7, 1), request(137, 8, 2), request(0, 9, 3), request(150, 10, 4), request(80, 7, 5)];
    let alone: Vec<_> = requests
        .iter()
        .map(|r| {
            let mut e = engine(case, 64, 1);
            let id = e.submit(r.clone()).unwrap();
            tokens_of(&drain(&mut e), id)
        })
        .collect();
    for (max_batch_tokens, max_sequences) in [(64, 3), (7, 2), (3, 3), (1, 1)] {
        let mut e = engine(case, max_batch_tokens, max_sequences);
        let ids: Vec<_> = requests.iter().map(|r| e.submit(r.clone()).unwrap()).collect();
        let events = drain(&mut e);
        for (id, expected) in ids.iter().zip(&alone) {
            assert_eq!(&tokens_of(&events, *id), expected, "{case} {max_batch_tokens} {max_sequences}");
        }
        let reused = events.iter().filter(|e| matches!(e, Event::Started { reused, .. } if *reused > 0));
        assert!(reused.count() > 0, "{case}: no request started from a kept prefix");
    }
}

/// Several turns, each of which goes on where the last one ended, give what the whole conversation gives at once.
#[test]
fn a_conversation_gives_what_its_whole_prompt_gives() {
    for case in ["qwen3", "lfm2", "qwen35"] {
        let ask = |e: &mut Engine, tokens: &[u32]| {
            let request = Request {
                tokens: tokens.to_vec(),
                params: SamplingParams::default(),
                max_tokens: 12,
                stop_tokens: vec![],
            };
            let id = e.submit(request).unwrap();
            let events = drain(e);
            let reused = events.iter().find_map(|e| match e {
                Event::Started { reused, .. } => Some(*reused),
                _ => None,
            });
            (reused.unwrap(), tokens_of(&events, id))
        };
        let (mut warm, mut history, mut stored) = (engine(case, 64, 1), (3..30).collect::<Vec<u32>>(), 0);
        for turn in 0..5 {
            let (reused, answer) = ask(&mut warm, &history);
            assert_eq!((reused, &answer), (stored, &ask(&mut engine(case, 64, 1), &history).1), "{case}, turn {turn}");
            history.extend(answer);
            stored = history.len() - 1;
            history.extend([40 + turn, 9, 200]);
        }
    }
}
