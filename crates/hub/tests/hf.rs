//! Pulling from a server that speaks the Hugging Face Hub's HTTP, and misbehaves in every way that a network can.

#[path = "common/child.rs"]
mod child_process;
mod common;
#[path = "common/hub.rs"]
mod fake;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::time::Duration;

use child_process::Home;
use common::weights;
use fake::{Hub, Mood, sha256};
use hub::StoreName;
use server::Reply;

const REFERENCE: &str = "hf:org/name/tiny-Q8_0.gguf";
const NAME: &str = "tiny:q8_0";
const LICENSE: &[u8] = b"Permission is hereby granted.";

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    child_process::main();
}

struct Fixture {
    hub: Hub,
    home: Home,
    weights: Vec<u8>,
}

impl Fixture {
    /// A repository with one GGUF file of `size` bytes and a licence.
    fn new(size: usize) -> Self {
        let weights = weights(1, size);
        let hub = Hub::start(&[("README.md", b"#"), ("LICENSE", LICENSE), ("tiny-Q8_0.gguf", &weights)]);
        let home = Home::new(&[("HF_ENDPOINT", &hub.api.url)]);
        Self { hub, home, weights }
    }

    fn in_mood(size: usize, mood: Mood) -> Self {
        let fixture = Self::new(size);
        fixture.hub.mood(mood);
        fixture
    }

    fn pulled(&self, bytes: &[u8]) -> String {
        format!("{NAME} sha256:{} present=false", sha256(bytes))
    }

    #[track_caller]
    fn assert_pulls(&self) {
        assert_eq!(self.home.pull(REFERENCE), self.pulled(&self.weights));
        self.assert_holds(&self.weights);
    }

    #[track_caller]
    fn assert_holds(&self, expected: &[u8]) {
        let found = self.home.store().resolve(&StoreName::parse(NAME).unwrap()).unwrap();
        assert!(fs::read(found.path).unwrap() == expected);
        assert_eq!(self.home.files("tmp"), Vec::<std::path::PathBuf>::new());
    }

    #[track_caller]
    fn assert_empty(&self) {
        assert!(self.home.store().list().unwrap().is_empty());
        assert_eq!((self.home.files("blobs").len(), self.home.received()), (0, 0));
    }
}

#[test]
fn a_file_is_pulled_with_its_licence_and_revision() {
    let fixture = Fixture::new(300_000);
    fixture.assert_pulls();
    let model = fixture.home.store().show(&StoreName::parse(NAME).unwrap()).unwrap();
    assert_eq!((model.entry.source.as_deref(), model.entry.license.as_deref()), (Some(REFERENCE), Some("Apache-2.0")));
    assert_eq!(model.annotations["org.opencontainers.image.revision"], "a".repeat(40));
    assert_eq!(fs::read(&model.layers[1].path).unwrap(), LICENSE);

    // The branch may have moved, so it is asked again; the bytes are there.
    fixture.hub.storage.forget();
    assert_eq!(fixture.home.pull(REFERENCE), fixture.pulled(&fixture.weights));
    assert_eq!(fixture.hub.storage.served().len(), 0);
    // A commit is the same for ever.
    let pinned = format!("hf:org/name@{}/*q8_0*", "a".repeat(40));
    assert!(fixture.home.pull(&pinned).contains("name:q8_0"));
    fixture.hub.api.forget();
    assert!(fixture.home.pull(&pinned).ends_with("present=true"));
    assert_eq!(fixture.hub.api.served().len(), 0);
}

#[test]
fn a_folder_becomes_a_folder_of_links_that_comes_back_when_it_is_lost() {
    let shard = |seed| [&2u64.to_le_bytes()[..], b"{}", &weights(seed, 1000)].concat();
    let (one, two) = (shard(1), shard(2));
    let index = b"{\"weight_map\": {}}";
    let files: [(&str, &[u8]); 7] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("generation_config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", &one),
        ("model-00002-of-00002.safetensors", &two),
        ("onnx/model.onnx", b"x"),
    ];
    let hub = Hub::start(&files);
    let home = Home::new(&[("HF_ENDPOINT", &hub.api.url)]);
    let answer = home.pull("hf:org/name");
    assert!(answer.starts_with("name:latest sha256:") && answer.ends_with("present=false"), "{answer}");
    let name = StoreName::parse("name").unwrap();
    for _ in 0..2 {
        let weights = home.store().resolve(&name).unwrap();
        assert_eq!(weights.size, (one.len() + two.len()) as u64);
        for (path, bytes) in &files[..6] {
            assert_eq!(&fs::read(weights.path.join(path)).unwrap(), bytes, "{path}");
        }
        assert!(!weights.path.join("onnx").exists());
        fs::remove_dir_all(weights.path).unwrap();
    }
    let model = home.store().show(&name).unwrap();
    assert_eq!(model.config["config"]["format"], "safetensors");
    let types = |end: &str| model.layers.iter().filter(|layer| layer.media_type.ends_with(end)).count();
    assert_eq!((types("model.weight.v1.raw"), types("model.weight.config.v1.raw")), (2, 4));
    home.store().resolve(&name).unwrap();
    home.store().remove(&name).unwrap();
    assert_eq!((home.files("models").len(), home.files("blobs").len()), (0, 0));
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let fixture = Fixture::new(10_000);
    fixture.home.pull_with(REFERENCE, &[("HF_TOKEN", "hf_secret")]);
    fixture.assert_holds(&fixture.weights);
    assert!(fixture.hub.api.served().iter().all(|s| s.asked.header("authorization") == Some("Bearer hf_secret")));
    assert!(!fixture.hub.storage.served().is_empty());
    assert!(fixture.hub.storage.served().iter().all(|s| s.asked.header("authorization").is_none()));
}

#[test]
fn refusals_say_what_to_do() {
    let fixture = Fixture::new(1000);
    let gated = || Reply::new(401).with("X-Error-Code", "GatedRepo").with("X-Error-Message", "Access is restricted.");
    for (refusal, token, words) in [
        (gated(), "", &["401", "Access is restricted.", "hint: the model is gated: accept its terms", "HF_TOKEN"][..]),
        (Reply { status: 403, ..gated() }, "t", &["403 Forbidden", "with the account of HF_TOKEN"]),
        (Reply::new(401).body("{\"error\":\"Repository not found\"}"), "", &["Repository not found", "check the name"]),
        (Reply::new(401), "t", &["hint: check the name, and that HF_TOKEN is valid"]),
        (Reply::new(404), "", &["404 Not Found", "check the name"]),
        (Reply::new(429).with("Retry-After", 3600), "", &["429", "wait a while"]),
        (Reply::new(302).with("Location", "file:///etc/passwd"), "", &["expected a redirect to a web address"]),
        (Reply::new(302).with("Location", "/again"), "", &["expected at most 10 redirects"]),
        (Reply::new(200).body("<html>"), "", &["expected the JSON of the Hugging Face API"]),
        (Reply::new(200).body("{\"sha\":\"../..\"}"), "", &["expected a commit of 40"]),
    ] {
        fixture.hub.mood(Mood { refusal: Some(refusal), ..Mood::default() });
        let error = fixture.home.pull_with(REFERENCE, &[("HF_TOKEN", token)]);
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
        fixture.assert_empty();
    }
    fixture.hub.mood(Mood::default());
    for (reference, words) in [
        ("hf:org/name@v9", ["RevisionNotFound", "no such branch"]),
        ("hf:org/name/tiny-Q4_0.gguf", ["found none among its 3 files", "the repository has tiny-Q8_0.gguf"]),
    ] {
        let error = fixture.home.pull(reference);
        assert!(words[1..].iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn nobody_at_home_is_said_soon() {
    let home = Home::new(&[("HF_ENDPOINT", "http://127.0.0.1:1")]);
    let start = std::time::Instant::now();
    let error = home.pull(REFERENCE);
    assert!(error.starts_with("cannot fetch http://127.0.0.1:1/api/models/org/name/revision/main: "), "{error}");
    assert!(error.contains("hint: is the network up?") && start.elapsed() < Duration::from_secs(10), "{error}");
    let error = home.pull_with(REFERENCE, &[("HF_ENDPOINT", "huggingface")]);
    assert!(error.contains("expected an address that begins with http"), "{error}");
}

#[test]
fn a_busy_server_is_asked_again_when_it_wants() {
    let fixture = Fixture::in_mood(1000, Mood { busy: 2, ..Mood::default() });
    let start = std::time::Instant::now();
    fixture.assert_pulls();
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(fixture.hub.storage.served().len(), 3);
}

#[test]
fn dropped_connections_are_resumed_and_no_byte_comes_twice() {
    let fixture = Fixture::in_mood(300_000, Mood { cut: Some(70_000), ..Mood::default() });
    fixture.assert_pulls();
    assert_eq!(fixture.hub.storage.sent(""), 300_000);
    assert_eq!(fixture.hub.storage.served().len(), 5);
}

#[test]
fn a_server_that_always_drops_is_given_up() {
    let fixture = Fixture::in_mood(300_000, Mood { cut: Some(0), ..Mood::default() });
    let error = fixture.home.pull(REFERENCE);
    assert!(error.contains("cannot fetch") && error.contains("what has arrived is kept"), "{error}");
    fixture.assert_empty();
}

#[test]
fn a_server_without_ranges_starts_again_from_the_first_byte() {
    let fixture = Fixture::in_mood(100_000, Mood { cut: Some(40_000), ..Mood::default() });
    fixture.hub.mood(Mood { cut: Some(40_000), no_ranges: true, ..Mood::default() });
    let error = fixture.home.pull(REFERENCE);
    assert!(error.contains("cannot fetch"), "{error}");
    fixture.hub.mood(Mood { no_ranges: true, ..Mood::default() });
    fixture.assert_pulls();
}

#[test]
fn a_wrong_byte_is_found_and_nothing_is_kept() {
    let fixture = Fixture::in_mood(100_000, Mood { wrong_byte: Some(50_000), ..Mood::default() });
    let error = fixture.home.pull(REFERENCE);
    assert!(error.starts_with(&format!("tiny-Q8_0.gguf: expected sha256:{}", sha256(&fixture.weights))), "{error}");
    assert!(error.contains("nothing was kept"), "{error}");
    fixture.assert_empty();
    fixture.hub.mood(Mood::default());
    fixture.assert_pulls();
}

#[test]
fn a_small_file_with_a_wrong_byte_is_found_by_its_git_hash() {
    // The listing is of the true file, the file another one of its size.
    let fixture = Fixture::in_mood(1000, Mood { change_after: Some(0), ..Mood::default() });
    let weights = fixture.weights.clone();
    fixture.hub.next(&[("LICENSE", b"permission is hereby granted."), ("tiny-Q8_0.gguf", &weights)]);
    let error = fixture.home.pull(REFERENCE);
    assert!(error.starts_with("LICENSE: expected git blob "), "{error}");
    assert!(fixture.home.store().list().unwrap().is_empty());
}

#[test]
fn a_file_that_changes_between_two_ranges_is_fetched_anew_as_a_whole() {
    let fixture = Fixture::in_mood(200_000, Mood { cut: Some(70_000), change_after: Some(1), ..Mood::default() });
    let newer = weights(2, 250_000);
    fixture.hub.next(&[("LICENSE", LICENSE), ("tiny-Q8_0.gguf", &newer)]);
    assert_eq!(fixture.home.pull(REFERENCE), fixture.pulled(&newer));
    fixture.assert_holds(&newer);
    let model = fixture.home.store().show(&StoreName::parse(NAME).unwrap()).unwrap();
    assert_eq!(model.annotations["org.opencontainers.image.revision"], "b".repeat(40));
}

#[test]
fn bytes_of_two_versions_are_never_joined() {
    // The storage gives each answer another tag: no range continues the one before.
    let fixture = Fixture::in_mood(200_000, Mood { cut: Some(70_000), unsteady_etag: true, ..Mood::default() });
    let error = fixture.home.pull(REFERENCE);
    assert!(error.contains("cannot fetch") || error.contains("other bytes at every attempt"), "{error}");
    assert!(fixture.home.store().list().unwrap().is_empty());
    fixture.hub.mood(Mood { unsteady_etag: true, ..Mood::default() });
    fixture.assert_pulls();
}

#[test]
fn where_all_sources_fail_each_failure_is_shown() {
    let home = Home::new(&[("HF_ENDPOINT", "http://127.0.0.1:1"), ("HTTPS_PROXY", "http://127.0.0.1:1")]);
    let error = home.pull("qwen3:0.6b");
    assert!(error.starts_with("no source of `qwen3:0.6b` works:\n  hf:Qwen/Qwen3-0.6B-GGUF/"), "{error}");
    assert!(error.contains("\n  ollama:qwen3:0.6b: cannot fetch https://registry.ollama.ai/"), "{error}");
    assert!(error.contains("\n  hf:Qwen/Qwen3-0.6B: cannot fetch http://127.0.0.1:1/"), "{error}");
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let fixture = Fixture::in_mood(500_000, Mood { dawdle: Some(Duration::from_millis(10)), ..Mood::default() });
    let both = [fixture.home.start(REFERENCE, &[]), fixture.home.start(REFERENCE, &[])];
    for child in both {
        let answer = child_process::answer(child.wait_with_output().unwrap());
        assert_eq!(answer, fixture.pulled(&fixture.weights));
    }
    fixture.assert_holds(&fixture.weights);
    assert_eq!(fixture.hub.storage.sent(""), 500_000);
}

/// `EDGELING_TEST_KILLS` sets how often. Every third kill comes at some moment, the others when some more bytes have
/// arrived, by a fixed sequence.
#[test]
fn a_pull_that_is_killed_again_and_again_fetches_no_byte_twice() {
    let kills: u64 = std::env::var("EDGELING_TEST_KILLS").map_or(10, |text| text.parse().unwrap());
    let share = 200_000;
    let size = (share * (kills + 1)) as usize;
    let fixture = Fixture::in_mood(size, Mood { dawdle: Some(Duration::from_millis(4)), ..Mood::default() });
    let mut state = 7u64;
    for kill in 0..kills {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let enough = fixture.home.received() + random % share;
        let mut child = fixture.home.start(REFERENCE, &[]);
        if kill % 3 == 0 {
            std::thread::sleep(Duration::from_millis(random % 40));
        } else {
            while fixture.home.received() < enough && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = fixture.home.store();
        let entries = store.list().unwrap();
        assert!(entries.iter().all(|entry| entry.damage.is_none()), "{kill}: {entries:?}");
    }
    let received = fixture.home.received() as usize;
    assert!(received > 0 && received < size, "{received} of {size}: the kills came too early or too late");
    fixture.hub.storage.forget();
    fixture.assert_pulls();
    assert_eq!(fixture.hub.storage.sent("tiny"), size - received);
}
