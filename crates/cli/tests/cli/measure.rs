//! `logits`, `eval`, `bench`: numbers, in the shape that scripts rely on.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Edgeling, checkpoint, keys, tiny};

/// Shape and values of a float32 matrix in NumPy's format.
fn read_npy(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8(bytes[10..10 + header].to_vec()).unwrap();
    let shape = text[text.find("'shape': ").unwrap()..].to_owned();
    let values = bytes[10 + header..].as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    (shape.split(')').next().unwrap().to_owned(), values)
}

fn tokens_of(folder: &Path) -> String {
    let tokens: Vec<u32> = serde_json::from_slice(&fs::read(folder.join("tokens.json")).unwrap()).unwrap();
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn logits_are_those_of_the_reference() {
    let edgeling = Edgeling::new();
    let out = edgeling.home.path().join("logits.npy");
    for name in ["llama", "llama3-rope", "qwen2", "qwen3"] {
        let folder = checkpoint(name);
        let expected = read_npy(&folder.join("logits.npy"));
        for (kv, bound) in [("f32", 2e-3), ("f16", 6e-3)] {
            let out_arg = out.to_str().unwrap();
            let args = [
                "logits",
                folder.to_str().unwrap(),
                "--tokens",
                &tokens_of(&folder),
                "--out",
                out_arg,
                "--kv",
                kv,
                "--json",
            ];
            let report = edgeling.json(&args);
            let found = read_npy(&out);
            assert_eq!(found.0, expected.0);
            assert_eq!(report["shape"][0], 48);
            let difference = found.1.iter().zip(&expected.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= bound, "{name} {kv}: {difference}");
        }
    }
}

#[test]
fn logits_do_not_depend_on_chunks_or_threads() {
    let edgeling = Edgeling::new();
    let folder = checkpoint("qwen3");
    let bytes = |extra: &[&str]| {
        let out = edgeling.home.path().join("out.npy");
        let tokens = tokens_of(&folder);
        let mut args = vec!["logits", folder.to_str().unwrap(), "--tokens", &tokens, "--out", out.to_str().unwrap()];
        args.extend(extra);
        edgeling.run(&args).success();
        fs::read(out).unwrap()
    };
    let whole = bytes(&["--threads", "1"]);
    for extra in [&["--chunk", "1"][..], &["--chunk", "7"], &["--threads", "2"], &["--chunk", "64", "--threads", "2"]] {
        assert!(bytes(extra) == whole, "{extra:?}");
    }
}

#[test]
fn logits_of_too_many_or_unknown_tokens_are_refused_and_leave_no_file() {
    let edgeling = Edgeling::new();
    let out = edgeling.home.path().join("out.npy");
    let args = |tokens, extra: &[&'static str]| {
        let args = ["logits", &tiny(), "--tokens", tokens, "--out", out.to_str().unwrap()].map(str::to_owned);
        args.into_iter().chain(extra.iter().map(|s| s.to_string())).collect::<Vec<_>>()
    };
    edgeling.run(&args("1,2,3", &["--context", "2"])).failed(1, &["3 tokens", "holds 2"]);
    edgeling.run(&args("1,264", &[])).failed(1, &["token 264 at position 1", "264"]);
    assert_eq!(fs::read_dir(edgeling.home.path()).unwrap().count(), 0);
}

#[test]
fn eval_gives_exactly_the_agreed_fields() {
    let edgeling = Edgeling::new();
    let text = edgeling.home.path().join("text");
    fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(20)).unwrap();
    let text = text.to_str().unwrap();
    let fields =
        ["perplexity", "perplexity_error", "tokens", "kl_mean", "kl_p99", "kl_max", "top1_agreement", "seconds"];
    let alone = edgeling.json(&["eval", &tiny(), "--text", text, "--context", "64", "--json"]);
    assert_eq!(keys(&alone), fields);
    assert!(alone["perplexity"].as_f64().unwrap() > 1.0);
    for field in &fields[3..7] {
        assert_eq!(alone[*field], Value::Null);
    }
    let gguf = checkpoint("llama").join("model.gguf");
    let base = ["--base", gguf.to_str().unwrap()];
    let both = edgeling.json(&[&["eval", &tiny(), "--text", text, "--context", "64", "--json"][..], &base].concat());
    assert_eq!(keys(&both), fields);
    assert_eq!(both["perplexity"], alone["perplexity"]);
    // The same weights in another file, but for the order of each head's rows.
    assert!(both["kl_max"].as_f64().unwrap() < 1e-4 && both["top1_agreement"].as_f64().unwrap() > 0.99, "{both}");
}

#[test]
fn eval_says_what_is_missing() {
    let edgeling = Edgeling::new();
    let text = edgeling.home.path().join("text");
    edgeling.run(&["eval", &tiny(), "--text", text.to_str().unwrap()]).failed(1, &["cannot read", "text"]);
    fs::write(&text, "short").unwrap();
    edgeling.run(&["eval", &tiny(), "--text", text.to_str().unwrap()]).failed(1, &["tokens", "512", "hint: "]);
}

#[test]
fn bench_gives_exactly_the_agreed_fields() {
    let edgeling = Edgeling::new();
    let args =
        ["bench", &tiny(), "--prompt", "16", "--generate", "8", "--batch", "2", "--repeat", "2", "--threads", "2"];
    let rows = edgeling.json(&[&args[..], &["--json"]].concat());
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["test"].as_str().unwrap()).collect::<Vec<_>>(), ["pp16", "tg8"]);
    for row in rows {
        assert_eq!(keys(row), ["test", "threads", "batch", "tps_median", "tps_min", "tps_max", "roof", "share"]);
        assert_eq!((&row["threads"], &row["batch"]), (&2.into(), &2.into()));
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(number("tps_min") <= number("tps_median") && number("tps_median") <= number("tps_max"));
        assert!(number("roof") > 0.0 && number("share") > 0.0);
    }
    let shown = edgeling.run(&args).success().stdout;
    assert!(shown.starts_with("test") && shown.contains("\npp16") && shown.contains("\ntg8"), "{shown}");
}

#[test]
fn the_roofs_are_measured_for_one_thread_and_for_all() {
    let rows = Edgeling::new().json(&["bench", "--roof", "--json", "--threads", "2"]);
    let threads: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["threads"].as_u64().unwrap()).collect();
    assert_eq!(threads, [1, 2]);
    for row in rows.as_array().unwrap() {
        for field in ["read_bytes_per_s", "int8_ops_per_s", "f32_ops_per_s"] {
            assert!(row[field].as_f64().unwrap() > 1e8, "{field}: {row}");
        }
    }
}

/// As many threads as the process may use, unless told.
#[cfg(target_os = "linux")]
#[test]
fn threads_stay_on_the_cpus_that_the_process_may_use() {
    let edgeling = Edgeling::new();
    let program = edgeling.command(&["bench", "--roof", "--json"]);
    let mut pinned = std::process::Command::new("taskset");
    pinned.args(["-c", "0"]).arg(program.get_program()).args(program.get_args());
    let output = pinned.output().expect("this test needs Debian's package util-linux");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["threads"], 1);
}

/// The peer prints what llama-bench prints for these arguments.
#[cfg(unix)]
#[test]
fn bench_runs_beside_a_peer() {
    use std::os::unix::fs::PermissionsExt;
    let edgeling = Edgeling::new();
    let peer = edgeling.home.path().join("a peer");
    let script = r#"#!/bin/sh
test "$1 $2 $3" = "-fa 1 -m" && test -f "$4" || exit 3
shift 4
test "$*" = "-p 16 -n 8 -t 2 -r 1 -o json" || exit 4
echo '[{"n_prompt":16,"n_gen":0,"avg_ts":10.5},{"n_prompt":0,"n_gen":8,"avg_ts":2.5}]'"#;
    fs::write(&peer, script).unwrap();
    fs::set_permissions(&peer, fs::Permissions::from_mode(0o755)).unwrap();
    let model = checkpoint("llama").join("model.gguf");
    let command = format!("'{}' -fa 1", peer.to_str().unwrap());
    let tests = ["--prompt", "16", "--generate", "8", "--repeat", "2", "--threads", "2"];
    let args = [&["bench", model.to_str().unwrap(), "--against", &command][..], &tests].concat();
    let rows = edgeling.json(&[&args[..], &["--json"]].concat());
    for (row, (test, theirs)) in rows.as_array().unwrap().iter().zip([("pp16", 10.5), ("tg8", 2.5)]) {
        let fields = ["test", "threads", "batch", "tps_median", "tps_min", "tps_max", "roof", "share", "against"];
        assert_eq!(keys(row), fields);
        let peer = &row["against"][0];
        assert_eq!(keys(peer), ["command", "tps_median", "tps_min", "tps_max", "share", "ratio"]);
        assert_eq!(
            (&row["test"], &peer["command"], &peer["tps_max"]),
            (&test.into(), &"a peer -fa 1".into(), &theirs.into())
        );
        let middle = row["tps_median"].as_f64().unwrap() / theirs;
        assert!((peer["ratio"].as_f64().unwrap() / middle - 1.0).abs() < 1e-6);
    }
    let table = edgeling.run(&args).success().stdout;
    assert!(table.contains("× as fast") && table.lines().count() == 5, "{table}");
}

#[test]
fn a_peer_that_cannot_be_measured_is_an_error() {
    let edgeling = Edgeling::new();
    let tiny = tiny();
    let against = |peer: &str| {
        edgeling.run(&["bench", &tiny, "--prompt", "4", "--generate", "0", "--repeat", "1", "--against", peer])
    };
    against("/no/such/bench").failed(1, &["cannot start /no/such/bench"]);
    if cfg!(unix) {
        against("false").failed(1, &["false failed"]);
        against("true").failed(1, &["true did not print llama-bench's JSON"]);
    }
    against("'x").failed(2, &["quote"]);
    edgeling.run(&["bench", &tiny, "--against", "true", "--batch", "2"]).failed(2, &["--batch"]);
}
