//! The store: `pull`, `list`, `show`, `cp`, `rm`, `export`, `import`, and names as models.

use std::fs;

use crate::fake_hub::Hub;
use crate::support::{Edgeling, checkpoint, keys};

fn source() -> String {
    format!("file:{}", checkpoint("llama").join("model.gguf").display())
}

#[test]
fn an_empty_store_is_no_error_and_stays_unmade() {
    let edgeling = Edgeling::new();
    let listed = edgeling.run(&["list"]).success();
    assert_eq!(listed.stdout, "");
    assert!(listed.stderr.contains("edgeling pull"));
    assert_eq!(edgeling.json(&["list", "--json"]).as_array().unwrap().len(), 0);
    assert_eq!(fs::read_dir(edgeling.home.path()).unwrap().count(), 0);
}

#[test]
fn a_model_is_pulled_listed_shown_used_and_removed() {
    let edgeling = Edgeling::new();
    let pulled = edgeling.json(&["pull", &source(), "--json"]);
    assert_eq!((pulled["name"].as_str(), pulled["present"].as_bool()), (Some("model:latest"), Some(false)));

    let listed = edgeling.json(&["list", "--json"]);
    assert_eq!(listed[0]["name"], "model:latest");
    assert!(edgeling.run(&["list"]).success().stdout.contains("\nmodel:latest  "));
    let shown = edgeling.json(&["show", "model", "--json"]);
    for key in ["name", "digest", "size", "source", "layers"] {
        assert!(keys(&shown).contains(&key), "{key}: {shown}");
    }
    assert!(edgeling.run(&["show", "model"]).success().stdout.contains("file:"));

    let by_name = edgeling.json(&["inspect", "model", "--json"]);
    let by_path = edgeling.json(&["inspect", checkpoint("llama").join("model.gguf").to_str().unwrap(), "--json"]);
    assert_eq!(by_name, by_path);

    assert_eq!(edgeling.json(&["rm", "model", "--json"])["name"], "model:latest");
    assert_eq!(edgeling.json(&["list", "--json"]).as_array().unwrap().len(), 0);
}

#[test]
fn the_home_folder_is_made_where_it_is_asked_for() {
    let edgeling = Edgeling::new();
    let home = edgeling.home.path().join("a/b");
    edgeling.run(&["pull", &source(), "--home", home.to_str().unwrap()]).success();
    assert!(home.join("store").is_dir() && !edgeling.home.path().join("home").exists());
}

#[test]
fn unknown_names_are_errors_that_help() {
    let edgeling = Edgeling::new();
    for command in [&["inspect", "smolm2"][..], &["run", "smolm2", "hi"], &["pull", "smolm2"]] {
        edgeling.run(command).failed(1, &["smolm2", "hint: did you mean smollm2?"]);
    }
    edgeling.run(&["inspect", "smollm2"]).failed(1, &["not in the store", "hint: run `edgeling pull smollm2`"]);
    for command in ["show", "rm"] {
        edgeling.run(&[command, "nothing"]).failed(1, &["nothing"]);
    }
    edgeling.run(&["pull", "nowhere.gguf"]).failed(1, &["nowhere.gguf"]);
}

#[test]
fn a_model_gets_a_second_name_and_travels_in_one_file() {
    let edgeling = Edgeling::new();
    edgeling.run(&["pull", &source()]).success();
    assert_eq!(edgeling.json(&["cp", "model", "mine:v1", "--json"])["name"], "mine:v1");
    assert_eq!(edgeling.json(&["rm", "model", "--json"])["freed"], 0);
    let bundle = edgeling.home.path().join("mine.tar");
    let bundle = bundle.to_str().unwrap();
    let exported = edgeling.json(&["export", "mine:v1", bundle, "--json"]);
    edgeling.run(&["export", "mine:v1", bundle]).failed(1, &["expected a new file"]);

    let other = Edgeling::new();
    let imported = other.json(&["import", bundle, "--offline", "--json"]);
    assert_eq!((&imported["name"], &imported["digest"]), (&exported["name"], &exported["digest"]));
    let inspect = ["inspect", "mine:v1", "--json"];
    assert_eq!(other.json(&inspect), edgeling.json(&inspect));
    assert!(other.run(&["import", bundle, "--name", "b"]).success().stdout.starts_with("b:latest is in the store"));
    other.run(&["import", "nowhere.tar"]).failed(1, &["cannot open nowhere.tar"]);
    other.run(&["cp", "nothing", "x"]).failed(1, &["no model `nothing`"]);
}

/// A repository in Hugging Face layout is pulled as a folder, and the folder is a model.
#[test]
fn a_folder_from_the_hub_is_a_model() {
    let folder = checkpoint("llama");
    let names =
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    let files: Vec<(&str, Vec<u8>)> = names.iter().filter_map(|n| Some((*n, fs::read(folder.join(n)).ok()?))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let hub = Hub::start(&files);
    let edgeling = Edgeling::new();
    let mut command = edgeling.command(&["run", "hf:org/name", "hi", "--raw", "--max-tokens", "2", "--json"]);
    let output = command.env("HF_ENDPOINT", &hub.api.url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It is there now; the server need not be.
    let by_name = edgeling.json(&["inspect", "name", "--json"]);
    assert_eq!(by_name, edgeling.json(&["inspect", folder.to_str().unwrap(), "--json"]));
}

/// No address answers at 127.0.0.1:1, and a system call for a socket would show.
#[test]
fn offline_commands_open_no_socket() {
    let edgeling = Edgeling::new();
    edgeling.run(&["pull", &source()]).success();
    let trace = edgeling.home.path().join("trace");
    let traced = |args: &[&str]| {
        let program = edgeling.command(args);
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-e", "trace=socket,connect", "-o"]).arg(&trace).arg(program.get_program());
        command.args(program.get_args()).env("EDGELING_HOME", edgeling.home.path().join("home"));
        let output = command.output().expect("this test needs Debian's package strace");
        let calls = fs::read_to_string(&trace).unwrap();
        assert!(!calls.contains("socket(") && !calls.contains("connect("), "{calls}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, errors) = traced(&["--offline", "run", "model", "hi", "--raw", "--max-tokens", "1"]);
    assert_eq!(status, Some(0), "{errors}");
    for args in [
        &["pull", "qwen3:0.6b", "--offline"][..],
        &["run", "hf:org/name", "hi", "--offline"],
        &["pull", "ollama:qwen3", "--offline"],
        &["push", "model", "oci:localhost:1/a:b", "--offline"],
        &["rm", "oci:localhost:1/a:b", "--offline"],
    ] {
        let (status, errors) = traced(args);
        assert!(status == Some(1) && errors.starts_with("error: "), "{args:?}: {errors}");
    }
}
