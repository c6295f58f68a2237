//! An importance matrix in either form, and every number that it gives access to.

use std::path::Path;
use std::sync::Arc;

use formats::imatrix::Imatrix;
use kernels::plan::Bytes;

pub fn run(input: &[u8]) {
    let Some(bytes) = Bytes::new(Arc::new(input.to_vec()), 0..input.len()) else { return };
    let Ok(imatrix) = Imatrix::parse(bytes, Path::new("imatrix")) else { return };
    assert!(!imatrix.is_empty());
    for (name, entry) in imatrix.entries() {
        assert!(entry.values() * 4 <= input.len() && entry.values().is_multiple_of(entry.counts().len()), "{name}");
        assert_eq!(entry.sums().len(), entry.values());
        if let Ok(means) = entry.means() {
            assert_eq!(means.len(), entry.values());
        }
    }
}
