//! The fixtures that `data/make.py` wrote, and what they hold.

use std::path::PathBuf;

use formats::Checkpoint;

pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub struct Expected {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The readable tensors of a fixture.
pub fn expected(fixture: &str) -> Vec<Expected> {
    let listed: serde_json::Value = serde_json::from_slice(&std::fs::read(data("tensors.json")).unwrap()).unwrap();
    let bytes = std::fs::read(data("values.f32")).unwrap();
    let mut values = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let mut found = Vec::new();
    for (file, tensors) in listed.as_object().unwrap() {
        for tensor in tensors.as_array().unwrap() {
            let text = |key: &str| tensor[key].as_str().unwrap().to_owned();
            let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
            let values: Vec<f32> = values.by_ref().take(shape.iter().product()).collect();
            if file == fixture {
                found.push(Expected { name: text("name"), dtype: text("type"), shape, values });
            }
        }
    }
    assert!(!found.is_empty() && values.next().is_none());
    found
}

/// Compares every readable tensor with what its writer put there.
pub fn check_tensors(checkpoint: &Checkpoint, fixture: &str) {
    for expected in expected(fixture) {
        let tensor = checkpoint.tensor(&expected.name).unwrap();
        assert_eq!(tensor.dtype.name, expected.dtype, "{}", expected.name);
        assert_eq!(tensor.shape, expected.shape, "{}", expected.name);
        assert_eq!(tensor.to_f32(), expected.values, "{}", expected.name);
        let info = checkpoint.tensor_info(&expected.name).unwrap();
        assert_eq!((info.bytes, info.elements()), (tensor.data.len(), expected.values.len()));
    }
}
