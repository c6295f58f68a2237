//! Small wheels, made by hand.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::io::{Cursor, Write};

use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, ZipArchive};

/// A zip archive of these members, deflated.
pub fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(ZipArchive::new(Cursor::new(&bytes)).unwrap().len(), members.len());
    bytes
}

/// A wheel of package `tiny-model` that pip accepts, with `weights` at `tiny_model/tiny.Q8_0.gguf` and a licence.
pub fn wheel_of(version: &str, weights: &[u8]) -> Vec<u8> {
    let info = format!("tiny_model-{version}.dist-info");
    let metadata =
        format!("Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\nLicense: MIT\n\nVersion: none\n");
    let wheel = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    zip_of(&[
        ("tiny_model/__init__.py", b""),
        ("tiny_model/tiny.Q8_0.gguf", weights),
        (&format!("{info}/LICENSE"), LICENSE),
        (&format!("{info}/METADATA"), metadata.as_bytes()),
        (&format!("{info}/WHEEL"), wheel.as_bytes()),
        (&format!("{info}/RECORD"), b""),
    ])
}

pub const LICENSE: &[u8] = b"Permission is hereby granted.";

/// Bytes that begin as a GGUF file does and do not compress: a linear congruential sequence (Knuth, MMIX).
pub fn weights(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(std::iter::repeat_with(&mut next).take(len.saturating_sub(4)));
    bytes
}
