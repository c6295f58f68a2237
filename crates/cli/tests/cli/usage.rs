//! Arguments: what is wrong is said, with status 2, before anything is done.

use crate::support::{Edgeling, tiny};

const COMMANDS: [&str; 20] = [
    "pull",
    "list",
    "show",
    "cp",
    "rm",
    "push",
    "import",
    "export",
    "run",
    "inspect",
    "tokenize",
    "detokenize",
    "logits",
    "convert",
    "calibrate",
    "quantize",
    "eval",
    "compare",
    "bench",
    "completions",
];

#[test]
fn every_command_has_help_with_examples() {
    let edgeling = Edgeling::new();
    let all = edgeling.run(&["--help"]).success();
    for command in COMMANDS {
        assert!(all.stdout.contains(&format!("\n  {command}  ")), "{command}");
        let help = edgeling.run(&[command, "--help"]).success().stdout;
        let examples = help.matches(&format!("edgeling {command}")).count();
        assert!(help.contains("Examples:") && examples >= 2, "{command}: {help}");
        for everywhere in ["--json", "--threads", "--home"] {
            assert!(help.contains(everywhere), "{command} {everywhere}");
        }
    }
}

#[test]
fn commands_that_do_not_exist_are_wrong_usage() {
    let edgeling = Edgeling::new();
    for command in ["serve", "optimize", "frobnicate"] {
        edgeling.run(&[command]).failed(2, &["unrecognized subcommand", command]);
    }
    edgeling.run(&["inspekt", "x"]).failed(2, &["'inspect'"]);
    edgeling.run(&["list", "--jsn"]).failed(2, &["'--json'"]);
}

/// Tutorials have the names and flags of llama.cpp's tools.
#[test]
fn old_names_get_the_right_command() {
    let edgeling = Edgeling::new();
    let cases: [(&[&str], &str); 7] = [
        (&["convert.py", "models/7B"], "hint: run `edgeling convert FOLDER --to gguf --out model.gguf`"),
        (&["convert_hf_to_gguf.py", "m", "--outtype", "f16"], "hint: run `edgeling convert"),
        (&["main", "-m", "m.gguf", "-p", "hi"], "hint: run `edgeling run model.gguf"),
        (&["llama-bench", "-m", "m.gguf"], "hint: run `edgeling bench model.gguf"),
        (&["llama-perplexity", "-f", "x"], "hint: run `edgeling eval model.gguf --text"),
        (&["run", "-m", "m.gguf"], "hint: the model is the first argument"),
        (&["convert", "m", "--to", "gguf", "--outfile", "x"], "hint: the flag is --out here"),
    ];
    for (args, hint) in cases {
        edgeling.run(args).failed(2, &[hint]);
    }
    assert!(!edgeling.run(&["frobnicate"]).stderr.contains("hint: run"));
}

#[test]
fn without_a_command_the_help_is_shown_as_wrong_usage() {
    let done = Edgeling::new().run::<&str>(&[]);
    assert_eq!((done.status, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("Usage: edgeling"));
}

#[test]
fn values_outside_their_range_are_wrong_usage() {
    let edgeling = Edgeling::new();
    let model = &tiny();
    let cases: [(&[&str], &str); 13] = [
        (&["list", "--threads", "0"], "--threads"),
        (&["list", "--threads", "100000"], "1..=1024"),
        (&["run", model, "hi", "--top-p", "2"], "top_p must be over 0 and at most 1, not 2"),
        (&["run", model, "hi", "--temperature=-1"], "temperature must be 0 or more, not -1"),
        (&["run", model, "hi", "--temperature", "warm"], "'warm'"),
        (&["run", model, "hi", "--max-tokens", "0"], "--max-tokens"),
        (&["run", model, "hi", "--kv", "q4_0"], "f32, f16, q8_0"),
        (&["run", model, "hi", "--stop", ""], "--stop"),
        (&["run", model, "hi", "--raw", "--system", "x"], "--system"),
        (&["logits", model, "--tokens", "1,x", "--out", "o.npy"], "found \"x\""),
        (&["eval", model, "--text", "t", "--context", "4"], "--context"),
        (&["bench"], "MODEL"),
        (&["bench", model, "--roof"], "--roof"),
    ];
    for (args, word) in cases {
        edgeling.run(args).failed(2, &[word]);
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let edgeling = Edgeling::new();
    let home = edgeling.home.path().join("elsewhere");
    let home = home.to_str().unwrap();
    let model = format!("file:{}/model.gguf", tiny());
    edgeling.run(&["--home", home, "pull", &model]).success();
    for args in [
        ["--home", home, "--json", "--threads", "1", "list"],
        ["list", "--home", home, "--json", "--threads", "1"],
        ["--json", "list", "--threads", "1", "--home", home],
    ] {
        assert_eq!(edgeling.json(&args).as_array().unwrap().len(), 1, "{args:?}");
    }
    // The variable's home is another.
    assert_eq!(edgeling.json(&["list", "--json"]).as_array().unwrap().len(), 0);
}

#[test]
fn type_names_are_taken_in_any_case() {
    let edgeling = Edgeling::new();
    let args = ["run", &tiny(), "hi", "--raw", "--max-tokens", "1", "--kv", "F32", "--json"];
    edgeling.json(&args);
}

#[test]
fn every_shell_gets_completions() {
    let edgeling = Edgeling::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = edgeling.run(&["completions", shell]).success().stdout;
        for word in ["detokenize", "completions", "temperature"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert_eq!(edgeling.json(&["completions", shell, "--json"])["script"], script.as_str());
    }
    edgeling.run(&["completions", "tcsh"]).failed(2, &["bash"]);
}

#[test]
fn an_unknown_tier_is_refused_with_those_that_exist() {
    let edgeling = Edgeling::new();
    let model = tiny();
    for args in [&["run", &model, "hi"][..], &["bench", "--roof"]] {
        let done = edgeling.command(args).env("EDGELING_CPU", "mmx").output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        for word in ["EDGELING_CPU", "mmx", "scalar", "avx2", "avx512"] {
            assert!(stderr.contains(word), "{stderr}");
        }
    }
}
