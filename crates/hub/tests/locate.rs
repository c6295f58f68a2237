//! What MODEL means, in the order in which it is looked for.

use std::fs;
use std::path::Path;

use hub::{HubError, Location, Missing, NoProgress, Result, Store};

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        Self { folder, store }
    }

    fn file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, "GGUF").unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn locate(&self, model: &str) -> Result<Location> {
        hub::locate(model, &self.store, Missing::Fail, &NoProgress)
    }

    fn error(&self, model: &str) -> (String, Option<String>) {
        let error = self.locate(model).unwrap_err();
        (error.to_string(), error.hint())
    }
}

#[test]
fn paths_are_taken_where_they_are() {
    let fixture = Fixture::new();
    let file = fixture.file("m.gguf");
    let folder = fixture.folder.path().to_str().unwrap();
    for model in [&file, folder, &fixture.file("weights without extension")] {
        let expected = Location { path: model.into(), name: model.to_owned(), digest: None };
        assert_eq!(fixture.locate(model).unwrap(), expected);
    }
    assert_eq!(fixture.locate(&format!("file:{file}")).unwrap().path, Path::new(&file));
    for model in ["/no/such.gguf", "file:/no/such.gguf"] {
        assert_eq!(fixture.error(model).0, "/no/such.gguf: expected a file or folder, found nothing of that name");
    }
    // A path needs no store.
    assert!(!fixture.store.root().exists());
}

#[test]
fn names_are_found_in_the_store() {
    let fixture = Fixture::new();
    let reference = format!("file:{}", fixture.file("Qwen3-0.6B-Q8_0.gguf"));
    let pulled = hub::pull(&reference, &fixture.store, &NoProgress, true).unwrap();
    let located = fixture.locate("Qwen3-0.6B:Q8_0").unwrap();
    assert_eq!((located.path, located.digest), (pulled.path, Some(pulled.digest)));
    assert_eq!(located.name, "qwen3-0.6b:q8_0");

    let (error, hint) = fixture.error("qwen3-0.6b:q8");
    assert_eq!(error, "no model `qwen3-0.6b:q8`: expected a file, a folder, a name in the store or an alias");
    assert_eq!(hint.unwrap(), "did you mean qwen3-0.6b:q8_0?");
}

#[test]
fn what_could_be_pulled_is_said_where_nothing_is() {
    let fixture = Fixture::new();
    for model in ["smollm2", "pypi:p==1.0/m.gguf", "hf:a/b"] {
        let (error, hint) = fixture.error(model);
        assert_eq!(error, format!("`{model}` is not in the store"));
        assert_eq!(hint.unwrap(), format!("run `edgeling pull {model}` first"));
    }
    assert!(matches!(fixture.locate("two words"), Err(HubError::Reference { .. })));
}

/// Alone in this file in what it does to the process: it changes the current folder, which no other test here reads.
#[test]
fn a_plain_folder_counts_where_it_holds_a_model() {
    let fixture = Fixture::new();
    std::env::set_current_dir(fixture.folder.path()).unwrap();
    fs::create_dir("smollm2").unwrap();
    fs::create_dir("other").unwrap();
    assert_eq!(fixture.error("smollm2").0, "`smollm2` is not in the store");
    let expected = "other: expected a name in the store, or a folder with a model, \
        found a folder without config.json or tokenizer.json or tekken.json";
    assert_eq!(fixture.error("other").0, expected);
    assert_eq!(fixture.locate("./other").unwrap().path, Path::new("./other"));
    fs::write("smollm2/tokenizer.json", "{}").unwrap();
    assert_eq!(fixture.locate("smollm2").unwrap().path, Path::new("smollm2"));
}
