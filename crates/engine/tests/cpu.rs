//! The engine on the CPU backend with a real, if tiny, model: company in the batch, chunking, kept prefixes and copied pages
//! change no token.

use std::path::Path;

use engine::{Engine, EngineOptions, Event, Request, RequestId};
use kernels::backend::{Backend, ProgramOptions};
use kernels::cpu::CpuBackend;
use kernels::simd::Tier;
use model::Model;
use model::sampler::SamplingParams;

fn engine(max_batch_tokens: usize, max_sequences: usize) -> Engine {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints/qwen3");
    let model = Model::open(&folder).unwrap();
    let tier = Tier::all_available().last().unwrap();
    let options = ProgramOptions { kv: Default::default(), threads: max_sequences, bf16: false };
    let program = CpuBackend::new(tier).unwrap().compile(model.plan, &options, &mut |_, _| ()).unwrap();
    Engine::new(program, EngineOptions { context: 128, max_batch_tokens, max_sequences }).unwrap()
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
    let trunk: Vec<u32> = (0..50).map(|i| i * 5 % 260).collect();
    let request = |shared: usize, tail: u32, seed| {
        let tokens = [&trunk[..shared], &[tail; 9]].concat();
        let params = SamplingParams { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Default::default() };
        Request { tokens, params, max_tokens: 30, stop_tokens: vec![] }
    };
    let requests = [request(50, 7, 1), request(37, 8, 2), request(0, 9, 3), request(50, 10, 4), request(21, 7, 5)];
    let alone: Vec<_> = requests
        .iter()
        .map(|r| {
            let mut e = engine(64, 1);
            let id = e.submit(r.clone()).unwrap();
            tokens_of(&drain(&mut e), id)
        })
        .collect();
    for (max_batch_tokens, max_sequences) in [(64, 3), (7, 2), (3, 3), (1, 1)] {
        let mut e = engine(max_batch_tokens, max_sequences);
        let ids: Vec<_> = requests.iter().map(|r| e.submit(r.clone()).unwrap()).collect();
        let events = drain(&mut e);
        for (id, expected) in ids.iter().zip(&alone) {
            assert_eq!(&tokens_of(&events, *id), expected, "{max_batch_tokens} {max_sequences}");
        }
        let reused = events.iter().filter(|e| matches!(e, Event::Started { reused, .. } if *reused > 0));
        assert!(reused.count() > 0, "no request started from a kept prefix");
    }
}
