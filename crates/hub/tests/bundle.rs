//! Bundles: what goes out comes in as it was, and nothing else comes in.

mod common;

use std::fs;
use std::path::PathBuf;

use common::weights;
use hub::{Digest, NoProgress, Result, Store, StoreName};
use serde_json::{Value, json};

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
    bytes: Vec<u8>,
}

fn name(text: &str) -> StoreName {
    StoreName::parse(text).unwrap()
}

impl Fixture {
    /// A store with the model `tiny:q8_0`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        let bytes = weights(1, 300_000);
        let file = folder.path().join("tiny-Q8_0.gguf");
        fs::write(&file, &bytes).unwrap();
        hub::pull(&format!("file:{}", file.display()), &store, &NoProgress, true).unwrap();
        Self { folder, store, bytes }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self) -> PathBuf {
        let path = self.path("tiny.tar");
        hub::export("tiny:q8_0", &path, &self.store, &NoProgress).unwrap();
        path
    }

    /// Imports these bytes into an empty store.
    fn import(&self, bytes: &[u8]) -> (Result<hub::Bundled>, Store) {
        let path = self.path("bundle.tar");
        fs::write(&path, bytes).unwrap();
        let home = self.path(&format!("other-{}", Digest::of(bytes).hex()));
        let store = Store::open(&home).unwrap();
        (hub::import(&path, None, &store, &NoProgress), store)
    }
}

fn members(bundle: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bundle);
    let read = |entry: std::io::Result<tar::Entry<&[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

fn tar_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Past the library's own check of names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_model_goes_out_and_comes_in_as_it_was() {
    let fixture = Fixture::new();
    let path = fixture.export();
    let bundle = fs::read(&path).unwrap();
    let names: Vec<String> = members(&bundle).into_iter().map(|(name, _)| name).collect();
    assert_eq!(&names[..2], ["oci-layout", "index.json"]);
    assert_eq!(names.len(), 5);
    // Nothing of this machine is in it, and it is the same each time.
    assert!(!String::from_utf8_lossy(&bundle).contains(fixture.folder.path().to_str().unwrap()));

    let (imported, store) = fixture.import(&bundle);
    let imported = imported.unwrap();
    let entry = fixture.store.list().unwrap().remove(0);
    assert_eq!((imported.name.as_str(), &imported.digest), ("tiny:q8_0", &entry.digest));
    assert!(fs::read(store.resolve(&name("tiny:q8_0")).unwrap().path).unwrap() == fixture.bytes);
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);

    // Again, and under another name.
    let (path, again) = (fixture.path("bundle.tar"), name("again"));
    hub::import(&path, None, &store, &NoProgress).unwrap();
    hub::import(&path, Some(&again), &store, &NoProgress).unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
    store.remove(&name("tiny:q8_0")).unwrap();
    store.resolve(&again).unwrap();

    let error = hub::export("again", &path, &store, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("expected a new file, found one that exists"), "{error}");
    assert!(hub::export("nothing", &fixture.path("x"), &store, &NoProgress).is_err() && !fixture.path("x").exists());
}

#[test]
fn a_damaged_blob_is_not_exported() {
    let fixture = Fixture::new();
    let blob = fixture.store.resolve(&name("tiny:q8_0")).unwrap().path;
    let mut bytes = fixture.bytes.clone();
    bytes[5] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let path = fixture.path("tiny.tar");
    let error = hub::export("tiny:q8_0", &path, &fixture.store, &NoProgress).unwrap_err().to_string();
    assert!(error.contains(&format!("expected {}", Digest::of(&fixture.bytes))), "{error}");
    let left: Vec<_> = fs::read_dir(fixture.folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_name_that_another_model_has_is_not_taken() {
    let fixture = Fixture::new();
    let bundle = fixture.export();
    fixture.store.remove(&name("tiny:q8_0")).unwrap();
    let other = fixture.path("tiny-Q8_0.gguf");
    fs::write(&other, weights(2, 1000)).unwrap();
    hub::pull(&format!("file:{}", other.display()), &fixture.store, &NoProgress, true).unwrap();
    let error = hub::import(&bundle, None, &fixture.store, &NoProgress).unwrap_err();
    assert_eq!(error.hint().unwrap(), "`edgeling rm tiny:q8_0` makes room");
    assert_eq!(fs::read_dir(fixture.store.root().join("blobs/sha256")).unwrap().count(), 3);
}

#[test]
fn hostile_bundles_leave_nothing() {
    let fixture = Fixture::new();
    let bundle = fs::read(fixture.export()).unwrap();
    let good = members(&bundle);
    let index: Value = serde_json::from_slice(&good[1].1).unwrap();
    let with = |at: usize, name: &str, bytes: Vec<u8>| {
        let mut members = good.clone();
        members[at] = (name.to_owned(), bytes);
        tar_of(&members)
    };
    let mut flipped = good[4].1.clone();
    flipped[100] ^= 1;
    let two = json!({"schemaVersion": 2, "manifests": [index["manifests"][0], index["manifests"][0]]});
    let nameless = json!({"schemaVersion": 2, "manifests": [{"mediaType": index["manifests"][0]["mediaType"],
        "digest": index["manifests"][0]["digest"], "size": 1}]});
    // A manifest whose file would land outside the model's folder.
    let manifest: Value = serde_json::from_slice(&good[2].1).unwrap();
    let escaping = |path: &str| {
        let mut manifest = manifest.clone();
        let part = |n: u32| {
            let mut layer = manifest["layers"][0].clone();
            layer["annotations"]["org.cncf.model.filepath"] = json!(format!("{path}-0000{n}-of-00002.gguf"));
            layer
        };
        manifest["layers"] = json!([part(1), part(2)]);
        let bytes = manifest.to_string().into_bytes();
        let mut index = index.clone();
        index["manifests"][0]["digest"] = json!(Digest::of(&bytes));
        let mut members = good.clone();
        members[1].1 = index.to_string().into_bytes();
        members[2] = (format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes);
        tar_of(&members)
    };
    for (bytes, words) in [
        (b"not a tar archive".to_vec(), "expected a bundle"),
        (Vec::new(), "found no index.json"),
        (bundle[..bundle.len() / 2].to_vec(), "expected blobs/sha256/"),
        (with(4, &good[4].0, flipped), "expected blobs/sha256/"),
        (with(4, "../../evil", vec![1]), "found `../../evil`"),
        (with(4, "blobs/sha256/../../evil", vec![1]), "found `blobs/sha256/../../evil`"),
        (tar_of(&good[..4]), "expected a bundle with the blob"),
        (tar_of(&good[2..]), "found no index.json"),
        (with(1, "index.json", b"[]".to_vec()), "expected an OCI image index"),
        (with(1, "index.json", two.to_string().into_bytes()), "expected a bundle of one model, found 2"),
        (with(1, "index.json", nameless.to_string().into_bytes()), "expected a bundle with the model's name"),
        (escaping("../../m"), "file names of their own inside"),
        (escaping("/m"), "file names of their own inside"),
    ] {
        let (imported, store) = fixture.import(&bytes);
        let error = imported.unwrap_err().to_string();
        assert!(error.contains(words), "no {words:?} in {error}");
        assert!(store.list().unwrap().is_empty());
        let left = |folder: &str| fs::read_dir(store.root().join(folder)).into_iter().flatten().count();
        assert_eq!((left("blobs/sha256"), left("tmp"), left("models")), (0, 0, 0), "{words}");
    }
    assert!(!fixture.path("evil").exists());
}

#[test]
fn a_copy_is_another_name_for_the_same_files() {
    let fixture = Fixture::new();
    let (from, to) = (name("tiny:q8_0"), name("mine"));
    fixture.store.copy(&from, &to).unwrap();
    fixture.store.copy(&from, &to).unwrap();
    let [one, two] = [&from, &to].map(|name| fixture.store.resolve(name).unwrap().path);
    assert_eq!(one, two);
    assert_eq!(fixture.store.remove(&from).unwrap().freed, 0);
    assert!(fs::read(fixture.store.resolve(&to).unwrap().path).unwrap() == fixture.bytes);
    assert!(fixture.store.copy(&from, &to).unwrap_err().to_string().contains("no model `tiny:q8_0`"));
    let other = fixture.path("other.gguf");
    fs::write(&other, weights(2, 1000)).unwrap();
    hub::pull(&format!("file:{}", other.display()), &fixture.store, &NoProgress, true).unwrap();
    let error = fixture.store.copy(&to, &name("other")).unwrap_err();
    assert_eq!(error.hint().unwrap(), "`edgeling rm other` makes room");
}
