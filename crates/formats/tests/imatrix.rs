//! Importance matrices by llama-imatrix (`scripts/oracle/imatrix.py`), in both forms, and hostile ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::FormatError;
use formats::imatrix::{Form, Imatrix, NewEntry, NewProducts, write, write_with_products};
use kernels::plan::Bytes;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/imatrix").join(name)
}

fn parse(bytes: Vec<u8>) -> Result<Imatrix, FormatError> {
    let len = bytes.len();
    Imatrix::parse(Bytes::new(Arc::new(bytes), 0..len).unwrap(), Path::new("f"))
}

/// What is wrong with a file.
fn refused(bytes: &[u8]) -> String {
    parse(bytes.to_vec()).unwrap_err().to_string()
}

#[test]
fn both_forms_say_the_same() {
    let [new, old] = ["llama.gguf", "llama.dat"].map(|name| Imatrix::open(&data(name)).unwrap());
    assert_eq!((new.form, old.form), (Form::Gguf, Form::Legacy));
    assert_eq!((new.chunks, new.chunk_size), (old.chunks, Some(64)));
    assert!(new.chunks > 4);
    assert_eq!(new.datasets, ["text.txt"]);
    assert_eq!(old.datasets, new.datasets);
    let names = |imatrix: &Imatrix| imatrix.entries().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&new), names(&old));
    assert!(names(&new).contains(&"blk.1.ffn_down.weight".to_owned()));
    assert_eq!(names(&new).len(), new.len());
    for (name, entry) in new.entries() {
        assert_eq!(entry.counts(), [(new.chunks * 64) as f32], "{name}");
        let (means, other) = (entry.means().unwrap(), old.entry(name).unwrap().means().unwrap());
        assert_eq!(means.len(), other.len());
        for (a, b) in means.iter().zip(other) {
            assert!((a - b).abs() <= a * 1e-6, "{name}: {a} and {b}");
        }
        assert!(means.iter().all(|mean| *mean > 0.0));
    }
}

#[test]
fn what_is_written_is_what_the_reference_writes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama.gguf", "qwen2moe.gguf"] {
        let reference = Imatrix::open(&data(name)).unwrap();
        let entry = |(tensor, entry): (&str, &formats::imatrix::Entry)| NewEntry {
            tensor: tensor.to_owned(),
            sums: entry.sums(),
            counts: entry.counts().to_vec(),
        };
        let mut entries: Vec<_> = reference.entries().map(entry).collect();
        entries.reverse();
        let target = folder.path().join(name);
        write(&target, &reference.datasets, (reference.chunks, 64), &entries).unwrap();
        assert!(std::fs::read(&target).unwrap() == std::fs::read(data(name)).unwrap(), "{name}");
    }
}

/// An entry of the older form.
fn entry(name: &str, calls: i32, values: &[f32]) -> Vec<u8> {
    let mut bytes = (name.len() as i32).to_le_bytes().to_vec();
    bytes.extend(name.as_bytes());
    bytes.extend(calls.to_le_bytes());
    bytes.extend((values.len() as i32).to_le_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn legacy(count: i32, rest: &[&[u8]]) -> Vec<u8> {
    [&count.to_le_bytes()[..], &rest.concat()].concat()
}

#[test]
fn means_of_the_older_form() {
    let old = parse(legacy(2, &[&entry("a", 4, &[2.0, 8.0]), &entry("b", 0, &[3.0])])).unwrap();
    assert_eq!(old.entry("a").unwrap().means().unwrap(), [0.5, 2.0]);
    assert_eq!(old.entry("b").unwrap().means().unwrap(), [3.0]);
    assert_eq!((old.chunks, old.datasets.len(), old.chunk_size), (0, 0, None));
    let tail = [7i32.to_le_bytes(), 3i32.to_le_bytes()].concat();
    let old = parse(legacy(1, &[&entry("a", 1, &[1.0]), &tail, b"abc"])).unwrap();
    assert_eq!((old.chunks, old.datasets), (7, vec!["abc".to_owned()]));
}

#[test]
fn hostile_files_of_the_older_form() {
    let one = entry("a", 1, &[1.0, 2.0, 3.0, 4.0]);
    let names = |len: i32| [&len.to_le_bytes()[..], &[b'a'; 40]].concat();
    for (bytes, expected) in [
        (Vec::new(), "f: expected an importance matrix, found an empty file"),
        (vec![1, 0], "f: expected an importance matrix, found bytes [01, 00]"),
        (legacy(0, &[&one]), "f: expected an importance matrix, found bytes [00, 00, 00, 00, 01, 00, 00, 00]"),
        (legacy(-1, &[&one]), "f: expected an importance matrix, found bytes [ff, ff, ff, ff, 01, 00, 00, 00]"),
        (legacy(3, &[&one]), "f: expected an importance matrix, found bytes [03, 00, 00, 00, 01, 00, 00, 00]"),
        (
            legacy(1, &[&names(-1)]),
            "f: at byte 4, entries: expected a name of at most 1024 bytes, found 4294967295 bytes",
        ),
        (
            legacy(1, &[&names(41)]),
            "f: at byte 8, entries: expected 41 more bytes, found 40 before the end of the file",
        ),
        (legacy(1, &[&entry("a", 1, &[]), &[0; 8]]), "f: at byte 13, a: expected a count of at least 1, found 0"),
        (legacy(1, &[&one[..20]]), "f: at byte 17, a: expected 16 more bytes, found 7 before the end of the file"),
        (legacy(2, &[&one, &one]), "f: tensor a: expected a name used once, found another entry of that name"),
        (
            legacy(1, &[&one, &[1]]),
            "f: at byte 33, the text's name: expected 4 more bytes, found 1 before the end of the file",
        ),
        (
            legacy(1, &[&one, &[1, 0, 0, 0, 9, 0, 0, 0, b'x']]),
            "f: at byte 41, the text's name: expected 9 more bytes, found 1 before the end of the file",
        ),
    ] {
        assert_eq!(refused(&bytes), expected);
    }
}

#[test]
fn numbers_that_are_no_sums() {
    for odd in [f32::NAN, f32::INFINITY, -1.0] {
        let old = parse(legacy(1, &[&entry("a", 1, &[1.0, odd])])).unwrap();
        let error = old.entry("a").unwrap().means().unwrap_err();
        assert_eq!(error.to_string(), format!("f: tensor a: expected sums of squares, found {odd}"));
    }
}

/// A file of today's form with other bytes somewhere.
fn changed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(data("llama.gguf")).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn hostile_files_of_the_form_of_today() {
    assert_eq!(
        refused(&changed("imatrix", "abcdefg")),
        "f: expected an importance matrix, found a GGUF file of a model"
    );
    assert_eq!(
        refused(&changed("blk.0.attn_k.weight.counts", "blk.0.attn_k.weight.county")),
        "f: tensor blk.0.attn_k.weight: expected sums and counts, found one without the other"
    );
    let model = data("../checkpoints/llama/model.gguf");
    let error = Imatrix::open(&model).unwrap_err().to_string();
    assert!(error.ends_with("expected an importance matrix, found a GGUF file of a model"), "{error}");
    // Cut off anywhere, it is refused.
    let whole = std::fs::read(data("llama.gguf")).unwrap();
    for end in (0..whole.len() - 32).step_by(7) {
        assert!(parse(whole[..end].to_vec()).is_err(), "{end}");
    }
}

#[test]
fn counts_of_experts_that_saw_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("f.gguf");
    let entry = NewEntry { tensor: "a".to_owned(), sums: vec![4.0, 6.0, 0.0, 0.0], counts: vec![2.0, 0.0] };
    write(&target, &[], (1, 2), &[entry]).unwrap();
    let imatrix = Imatrix::open(&target).unwrap();
    assert_eq!(imatrix.entry("a").unwrap().means().unwrap(), [2.0, 3.0, 1.0, 1.0]);
}

#[test]
fn products_stand_behind_the_sums_once_for_all_that_are_given_the_same() {
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("imatrix.gguf");
    let entry = |tensor: &str| NewEntry { tensor: tensor.to_owned(), sums: vec![4.0, 6.0], counts: vec![2.0] };
    let products = NewProducts { tensors: vec!["b", "a"], cols: 2, sums: &[4.0, -1.0, 0.0, 6.0] };
    write_with_products(&target, &[], (1, 2), &["a", "b", "c"].map(entry), &[products]).unwrap();
    let found = Imatrix::open(&target).unwrap();
    assert!(found.has_products());
    assert_eq!(found.products("a"), Some(vec![4.0, -1.0, 0.0, 6.0]));
    assert_eq!(found.products("b"), found.products("a"));
    assert_eq!(found.products("c"), None);
    assert_eq!(found.len(), 3);
    assert!(!Imatrix::open(&data("llama.gguf")).unwrap().has_products());
}
