//! The store: `pull`, `list`, `show`, `rm`, and names as models.

use std::fs;

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
