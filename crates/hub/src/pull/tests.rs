use std::fs;
use std::path::Path;

use super::*;
use crate::NoProgress;
use crate::error::HubError;

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

    /// Writes a file and gives the reference to it.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        format!("file:{}", path.display())
    }

    fn pull(&self, model: &str) -> Result<Pulled> {
        pull(model, &self.store, &NoProgress, true)
    }

    fn error(&self, model: &str) -> String {
        self.pull(model).unwrap_err().to_string()
    }

    /// Files in the store: blobs, and whatever lies in `tmp`.
    fn files(&self, folder: &str) -> usize {
        count(&self.store.root().join(folder))
    }
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_file_is_copied_under_the_name_it_has() {
    let fixture = Fixture::new();
    let reference = fixture.file("Tiny-Q8_0.gguf", b"GGUF one");
    let pulled = fixture.pull(&reference).unwrap();
    assert_eq!((pulled.name.as_str(), pulled.size, pulled.present), ("tiny:q8_0", 8, false));
    assert_eq!(fs::read(&pulled.path).unwrap(), b"GGUF one");
    assert_eq!(pulled.digest, Digest::of(b"GGUF one"));
    let entry = &fixture.store.list().unwrap()[0];
    assert_eq!(entry.source.as_ref(), Some(&reference));
    assert_eq!(fixture.files("tmp"), 0);
    // The name alone finds it now.
    assert_eq!(fixture.pull("tiny:q8_0").unwrap(), Pulled { present: true, ..pulled });
}

#[test]
fn a_file_that_changed_is_copied_again_and_its_old_bytes_go() {
    let fixture = Fixture::new();
    fixture.pull(&fixture.file("m.gguf", b"GGUF one")).unwrap();
    let pulled = fixture.pull(&fixture.file("m.gguf", b"GGUF two")).unwrap();
    assert_eq!((fs::read(&pulled.path).unwrap().as_slice(), pulled.present), (&b"GGUF two"[..], false));
    // Weights, configuration and manifest of the one model.
    assert_eq!(fixture.files("blobs"), 3);
}

#[test]
fn a_name_is_not_taken_from_a_model_of_another_source() {
    let fixture = Fixture::new();
    let first = fixture.file("m.gguf", b"GGUF one");
    fixture.pull(&first).unwrap();
    fs::create_dir(fixture.folder.path().join("other")).unwrap();
    let second = fixture.file("other/m.gguf", b"GGUF two");
    let error = fixture.pull(&second).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the store has a model `m` from {first}; expected one from {second}, or none")
    );
    assert_eq!(error.hint().unwrap(), "`edgeling rm m` makes room");
}

#[test]
fn what_is_no_whole_gguf_model_leaves_nothing() {
    let fixture = Fixture::new();
    for (name, bytes, expected) in [
        (
            "m.gguf",
            &b"PK\x03\x04zip"[..],
            "expected a GGUF file, found a file of 7 bytes that begins with `PK\\x03\\x04`",
        ),
        ("m.gguf", b"", "found a file of 0 bytes that begins with ``"),
        ("m-00001-of-00003.gguf", b"GGUF", "expected a model in one file, found part 1 of 3"),
    ] {
        let error = fixture.error(&fixture.file(name, bytes));
        assert!(error.contains(expected), "{error}");
        assert_eq!((fixture.files("blobs"), fixture.files("tmp")), (0, 0));
    }
    assert_eq!(fixture.pull(&fixture.file("m-00001-of-00001.gguf", b"GGUF")).unwrap().name, "m-00001-of-00001:latest");
    let folder = fixture.pull(&format!("file:{}", fixture.folder.path().display())).unwrap_err();
    assert!(folder.to_string().contains("expected a GGUF file, found a folder"), "{folder}");
    let missing = fixture.error("file:/no/such.gguf");
    assert!(missing.starts_with("cannot open /no/such.gguf: "), "{missing}");
}

#[test]
fn other_bytes_than_the_pinned_ones_leave_nothing() {
    let fixture = Fixture::new();
    let origin = Origin::parse(&fixture.file("m.gguf", b"GGUF found")).unwrap();
    let puller = Puller { store: &fixture.store, progress: &NoProgress, offline: true };
    let name = StoreName::parse("m").unwrap();
    let fetch = |digest: Digest, size: u64| {
        puller.fetch(&name, &origin, About { pin: Some(Pin { digest, size }), ..About::default() })
    };
    let (right, wrong) = (Digest::of(b"GGUF found"), Digest::of(b"GGUF pinned"));
    let error = fetch(wrong.clone(), 11).unwrap_err();
    let text = format!("{}: expected {wrong} (11 bytes), found {right} (10 bytes)", origin.reference);
    assert_eq!(error.to_string(), text);
    assert!(matches!(fetch(right.clone(), 11), Err(HubError::Pin { .. })));
    assert_eq!((fixture.files("blobs"), fixture.files("tmp"), fixture.store.list().unwrap().len()), (0, 0, 0));

    fetch(right.clone(), 10).unwrap();
    assert_eq!(fixture.store.list().unwrap()[0].pinned, Some(right));
}

#[test]
fn what_cannot_be_pulled_says_why() {
    let fixture = Fixture::new();
    for (model, expected) in [
        ("smollm2", "`smollm2` is not in the store, and fetching it needs the network"),
        ("pypi:p==1.0/m.gguf", "`m` is not in the store, and fetching it needs the network"),
        ("smolm2", "no model `smolm2`: expected a file, a folder, a name in the store or an alias"),
        ("./m.gguf", "expected a name or a reference with a scheme, found a path"),
        ("hf:org/name", "`name` is not in the store, and fetching it needs the network"),
    ] {
        let error = fixture.error(model);
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(fixture.pull("smolm2").unwrap_err().hint().unwrap(), "did you mean smollm2?");
    // None of this made a store.
    assert!(!fixture.store.root().exists());
}
