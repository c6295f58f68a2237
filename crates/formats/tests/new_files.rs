//! Large files that appear whole or not at all.

use std::fs;

use formats::NewFile;

const PART: usize = 24 << 20;
const PARTS: usize = 6;

#[test]
fn a_large_file_appears_when_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let mut file = NewFile::create(&path).unwrap();
    for i in 0..PARTS {
        file.write(&vec![i as u8; PART]).unwrap();
        assert!(!path.exists());
    }
    file.finish().unwrap();
    let found = fs::read(&path).unwrap();
    assert_eq!(found.len(), PART * PARTS);
    assert!(found.chunks(PART).enumerate().all(|(i, part)| part.iter().all(|b| usize::from(*b) == i)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_large_file_that_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = NewFile::create(&folder.path().join("large")).unwrap();
    (0..PARTS).for_each(|_| file.write(&vec![1; PART]).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(file);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
