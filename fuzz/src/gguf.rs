//! The header of a GGUF file, and every value that it gives access to.

use std::path::Path;
use std::sync::Arc;

use formats::gguf::{Header, Value};
use kernels::plan::Bytes;

pub fn run(input: &[u8]) {
    let Some(bytes) = Bytes::new(Arc::new(input.to_vec()), 0..input.len()) else { return };
    let Ok(header) = Header::parse(bytes, Path::new("model.gguf")) else { return };
    for (key, value) in header.metadata.iter() {
        walk(value);
        let _ = header.metadata.get::<Vec<&str>>(key);
        let _ = header.metadata.get::<Vec<f32>>(key);
        let _ = header.metadata.get::<u64>(key);
    }
    for tensor in &header.tensors {
        assert!(tensor.bytes <= input.len() && tensor.shape.len() <= 4, "{tensor:?}");
        let _ = tensor.elements();
    }
}

fn walk(value: Value) {
    let _ = value.to_string();
    if let Value::Array(array) = value {
        let mut count = 0;
        for element in array.values() {
            walk(element);
            count += 1;
        }
        assert_eq!(count, array.len());
    }
}
