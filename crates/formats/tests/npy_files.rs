//! NumPy files, byte by byte, and what is left when writing ends early.

use std::fs;

use formats::npy::NpyWriter;

#[test]
fn header_and_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.npy");
    let mut writer = NpyWriter::create(&path, 3, 2).unwrap();
    writer.write(&[1.0, 2.0]).unwrap();
    assert!(!path.exists());
    writer.write(&[3.0, 4.0, -5.5, f32::INFINITY]).unwrap();
    writer.finish().unwrap();

    let bytes = fs::read(&path).unwrap();
    let (header, values) = bytes.split_at(128);
    assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let dictionary = std::str::from_utf8(&header[10..]).unwrap();
    assert_eq!(dictionary.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }");
    assert!(dictionary.ends_with(" \n"));
    let values: Vec<f32> = values.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, -5.5, f32::INFINITY]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_unfinished_array_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.npy");
    fs::write(&path, "old").unwrap();

    let mut writer = NpyWriter::create(&path, 2, 2).unwrap();
    writer.write(&[1.0, 2.0]).unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.ends_with("expected 2 rows of 2 values, 2 values were written"), "{error}");

    let mut writer = NpyWriter::create(&path, 1, 2).unwrap();
    assert!(writer.write(&[1.0, 2.0, 3.0]).is_err());
    drop(writer);

    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(NpyWriter::create(&folder.path().join("none/logits.npy"), 1, 1).is_err());
}
