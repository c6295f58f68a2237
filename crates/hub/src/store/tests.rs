use std::thread;

use serde_json::{Value, json};

use super::*;
use crate::{NoProgress, StoreName};

struct Fixture {
    home: tempfile::TempDir,
    store: Store,
}

fn name(text: &str) -> StoreName {
    StoreName::parse(text).unwrap()
}

fn add(store: &Store, model: &str, files: &[(LayerKind, &str, &[u8])]) -> Result<()> {
    let mut staging = store.stage().unwrap();
    let layers = files.iter().map(|(kind, file_name, bytes)| {
        let file = staging.copy(&mut &bytes[..], &NoProgress, |_| unreachable!()).unwrap();
        NewLayer { kind: *kind, file_name: (*file_name).to_owned(), file }
    });
    let model = NewModel {
        layers: layers.collect(),
        name: name(model),
        source: format!("pypi:p==1.0/{model}"),
        pinned: Some(Digest::of(b"pin")),
        title: Some("A title".to_owned()),
        version: Some("1.0".to_owned()),
        revision: None,
        license: Some("Apache-2.0".to_owned()),
        manifest: None,
    };
    store.commit(staging, model)
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        Self { home, store }
    }

    /// Adds a model with these weights and the one licence that all models here share.
    fn add(&self, model: &str, weights: &[u8]) {
        let files = [(LayerKind::Weights, "m.gguf", weights), (LayerKind::Doc, "LICENSE", b"licence")];
        add(&self.store, model, &files).unwrap();
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.store.root().join(relative)
    }

    fn json(&self, relative: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(relative)).unwrap()).unwrap()
    }

    fn blob(&self, digest: &Value) -> PathBuf {
        self.path("blobs/sha256").join(digest.as_str().unwrap().strip_prefix("sha256:").unwrap())
    }

    fn blobs(&self) -> usize {
        fs::read_dir(self.path("blobs/sha256")).unwrap().count()
    }
}

#[test]
fn a_store_that_is_only_read_is_not_created() {
    let fixture = Fixture::new();
    assert!(fixture.store.list().unwrap().is_empty());
    assert!(fixture.store.find(&name("a")).unwrap().is_none());
    fixture.store.remove(&name("a")).unwrap_err();
    assert!(fs::read_dir(fixture.home.path()).unwrap().next().is_none());

    let file = fixture.home.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Store::open(&file).unwrap_err().to_string().ends_with("expected a folder to keep models in, found a file"));
}

#[test]
fn the_documents_are_those_of_the_specifications() {
    let fixture = Fixture::new();
    fixture.add("a:q8_0", b"weights");
    let (weights, license) = (Digest::of(b"weights"), Digest::of(b"licence"));

    assert_eq!(fixture.json("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let index = fixture.json("index.json");
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(oci::INDEX)));
    let entry = &index["manifests"][0];
    let bytes = fs::read(fixture.blob(&entry["digest"])).unwrap();
    assert_eq!((&entry["mediaType"], &entry["size"]), (&json!(oci::MANIFEST), &json!(bytes.len())));
    let annotations = entry["annotations"].as_object().unwrap();
    let text = |key: &str| annotations[key].as_str().unwrap();
    assert_eq!(text("org.opencontainers.image.ref.name"), "a:q8_0");
    assert_eq!(text("org.opencontainers.image.licenses"), "Apache-2.0");
    assert_eq!(text("edgeling.source"), "pypi:p==1.0/a:q8_0");
    assert_eq!(text("edgeling.pinned-digest"), Digest::of(b"pin").to_string());

    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let config = fs::read(fixture.blob(&manifest["config"]["digest"])).unwrap();
    let layer = |kind: &str, digest: &Digest, size: usize, file: &str| {
        json!({"mediaType": format!("application/vnd.cncf.model.{kind}.v1.raw"), "digest": digest, "size": size,
            "annotations": {"org.cncf.model.filepath": file}})
    };
    let expected = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.cncf.model.config.v1+json",
            "digest": Digest::of(&config),
            "size": config.len(),
        },
        "layers": [layer("weight", &weights, 7, "m.gguf"), layer("doc", &license, 7, "LICENSE")],
        "annotations": {
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.title": "A title",
            "org.opencontainers.image.version": "1.0",
        },
    });
    assert_eq!(manifest, expected);
    let expected = json!({
        "descriptor": {"name": "a", "title": "A title", "version": "1.0", "licenses": ["Apache-2.0"]},
        "config": {"format": "gguf"},
        "modelfs": {"type": "layers", "diffIds": [weights, license]},
    });
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap(), expected);
}

#[test]
fn list_show_and_resolve_agree() {
    let fixture = Fixture::new();
    fixture.add("b", b"weights of b");
    fixture.add("a:q8_0", b"weights");
    let entries = fixture.store.list().unwrap();
    assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a:q8_0", "b:latest"]);
    let entry = &entries[0];
    assert_eq!((entry.size, entry.damage.as_ref()), (14, None));
    assert_eq!((entry.license.as_deref(), entry.title.as_deref()), (Some("Apache-2.0"), Some("A title")));
    let year: u32 = entry.modified.as_ref().unwrap()[..4].parse().unwrap();
    assert!(year >= 2025, "{year}");

    let model = fixture.store.show(&name("A:Q8_0")).unwrap();
    assert_eq!((&model.entry.digest, model.config["config"]["format"].as_str()), (&entry.digest, Some("gguf")));
    assert_eq!(model.layers[1].file_name.as_deref(), Some("LICENSE"));
    let weights = fixture.store.resolve(&name("a:q8_0")).unwrap();
    assert_eq!((&weights.path, weights.size), (&model.layers[0].path, 7));
    assert_eq!(fs::read(weights.path).unwrap(), b"weights");
}

#[test]
fn removing_frees_what_no_other_model_needs() {
    let fixture = Fixture::new();
    fixture.add("a", b"weights of a");
    fixture.add("b", b"weights of b");
    fixture.add("c", b"weights of b");
    // Three manifests and three configurations (each names its model, or differs in its layers), two weights, one
    // licence.
    assert_eq!(fixture.blobs(), 9);
    let removed = fixture.store.remove(&name("a")).unwrap();
    assert!(removed.name == "a:latest" && removed.freed > 12, "{removed:?}");
    assert_eq!(fixture.blobs(), 6);
    fixture.store.remove(&name("b")).unwrap();
    assert_eq!(fs::read(fixture.store.resolve(&name("c")).unwrap().path).unwrap(), b"weights of b");
    fixture.store.remove(&name("c")).unwrap();
    assert_eq!((fixture.blobs(), fixture.store.list().unwrap().len()), (0, 0));
}

#[test]
fn an_unknown_name_is_an_error_with_those_close_to_it() {
    let fixture = Fixture::new();
    fixture.add("smollm2", b"weights");
    let error = fixture.store.remove(&name("smolm2")).unwrap_err();
    assert_eq!(error.to_string(), "no model `smolm2`: expected a name in the store");
    assert_eq!(error.hint().unwrap(), "did you mean smollm2?");
    assert!(fixture.store.show(&name("x")).unwrap_err().to_string().contains("no model `x`"));
}

#[test]
fn a_damaged_index_is_an_error_and_is_not_written_over() {
    let fixture = Fixture::new();
    fixture.add("a", b"weights");
    let path = fixture.path("index.json");
    let whole = fs::read_to_string(&path).unwrap();
    let hostile = whole.replace("sha256:", "sha256:../../");
    for damaged in ["", "{", "[]", "{\"schemaVersion\": 2}", "{\"schemaVersion\": 1, \"manifests\": []}", &hostile] {
        fs::write(&path, damaged).unwrap();
        let error = fixture.store.list().unwrap_err();
        assert!(error.to_string().contains("index.json: expected an OCI image index"), "{error}");
        assert!(error.hint().unwrap().contains("move the file away"));
        add(&fixture.store, "b", &[(LayerKind::Weights, "b.gguf", b"b")]).unwrap_err();
        fixture.store.remove(&name("a")).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
    fs::write(&path, whole).unwrap();
    fs::write(fixture.path("oci-layout"), "{\"imageLayoutVersion\": \"2.0.0\"}").unwrap();
    let error = fixture.store.list().unwrap_err().to_string();
    assert!(error.ends_with("expected an OCI image layout of version 1.0.0, found version 2.0.0"), "{error}");
}

#[test]
fn a_damaged_model_is_listed_and_does_not_hide_the_others() {
    let fixture = Fixture::new();
    for model in ["a", "b", "c", "d"] {
        fixture.add(model, format!("weights of {model}").as_bytes());
    }
    let weights = |model| fixture.store.resolve(&name(model)).unwrap().path;
    fs::write(weights("a"), "weig").unwrap();
    fs::remove_file(weights("b")).unwrap();
    let entry = fixture.store.find(&name("c")).unwrap().unwrap();
    fs::write(fixture.blob(&json!(entry.digest)), "{}").unwrap();

    for (model, expected) in
        [("a", "found 4 bytes"), ("b", "found no such file"), ("c", "expected the model's manifest")]
    {
        let error = fixture.store.resolve(&name(model)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.hint().unwrap(), format!("`edgeling pull {model}` gets it again"));
    }
    let damage: Vec<bool> = fixture.store.list().unwrap().iter().map(|entry| entry.damage.is_some()).collect();
    assert_eq!(damage, [true, true, true, false]);

    // While c's manifest cannot be read, nobody knows which blobs it needs: none goes.
    let blobs = fixture.blobs();
    assert_eq!(fixture.store.remove(&name("a")).unwrap().freed, 0);
    assert_eq!(fixture.blobs(), blobs);
    assert!(fixture.store.remove(&name("c")).unwrap().freed > 0);
    fixture.store.remove(&name("b")).unwrap();
    assert_eq!(fixture.blobs(), 4);
    fixture.store.resolve(&name("d")).unwrap();
}

#[test]
fn a_model_of_files_that_do_not_belong_together_does_not_resolve() {
    let fixture = Fixture::new();
    let two = [(LayerKind::Weights, "1.gguf", &b"1"[..]), (LayerKind::Weights, "2.gguf", b"2")];
    add(&fixture.store, "two", &two).unwrap();
    let error = fixture.store.resolve(&name("two")).unwrap_err().to_string();
    assert!(error.contains("of config.json and safetensors, found 2 weights files"), "{error}");
}

#[test]
fn a_name_given_again_means_the_new_model() {
    let fixture = Fixture::new();
    fixture.add("a", b"old");
    fixture.add("a", b"new");
    assert_eq!(fs::read(fixture.store.resolve(&name("a")).unwrap().path).unwrap(), b"new");
    assert_eq!((fixture.store.list().unwrap().len(), fixture.blobs()), (1, 4));
}

#[test]
fn what_other_tools_put_into_the_index_stays() {
    let fixture = Fixture::new();
    fixture.add("a", b"weights");
    let mut index = fixture.json("index.json");
    let foreign = json!({"mediaType": oci::INDEX, "digest": Digest::of(b"x"), "size": 1, "platform": {"os": "linux"}});
    index["manifests"].as_array_mut().unwrap().push(foreign.clone());
    index["annotations"] = json!({"k": "v"});
    fs::write(fixture.path("index.json"), index.to_string()).unwrap();
    fixture.add("b", b"weights");
    let after = fixture.json("index.json");
    assert_eq!((&after["annotations"], &after["manifests"][1]), (&index["annotations"], &foreign));
    assert_eq!(fixture.store.list().unwrap().len(), 2);
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let fixture = Fixture::new();
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = Store::open(fixture.home.path()).unwrap();
            scope.spawn(move || {
                for model in 0..4 {
                    let weights = format!("{writer} {model}");
                    add(&store, &format!("m{writer}-{model}"), &[(LayerKind::Weights, "m.gguf", weights.as_bytes())])
                        .unwrap();
                }
            });
        }
    });
    let entries = fixture.store.list().unwrap();
    assert!(entries.len() == 16 && entries.iter().all(|entry| entry.damage.is_none()));
}

#[test]
fn opening_removes_what_killed_pulls_left_and_nothing_else() {
    let fixture = Fixture::new();
    let mut alive = fixture.store.stage().unwrap();
    let scratch = alive.scratch("pip").unwrap();
    for left in ["pull-dead", "pull-without-lock"] {
        fs::create_dir_all(fixture.path("tmp").join(left).join("pip")).unwrap();
    }
    fs::write(fixture.path("tmp/pull-dead/lock"), "").unwrap();
    fs::write(fixture.path("tmp/document"), "{").unwrap();
    let store = Store::open(fixture.home.path()).unwrap();
    assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 1);
    assert!(scratch.is_dir());
    alive.copy(&mut &b"x"[..], &NoProgress, |_| unreachable!()).unwrap();
    drop(alive);
    assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
}
