use std::path::Path;

use formats::Checkpoint;

use super::{ConvertError, ConvertOptions, to_gguf, to_hf};

/// The observer stops the work at each of its calls: nothing is left, whenever that is.
#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints/llama");
    let source = Checkpoint::open(&source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for calls in [0, 1, 7, 30] {
        let mut left = calls;
        let mut observer = |_| {
            left -= 1;
            left >= 0
        };
        let out = folder.path().join("out");
        let options = ConvertOptions::default();
        let file = to_gguf(&source, &out, options, &mut observer);
        assert!(matches!(file, Err(ConvertError::Interrupted)), "{calls}");
        left = calls;
        let mut observer = |_| {
            left -= 1;
            left >= 0
        };
        assert!(matches!(to_hf(&source, &out, options, &mut observer), Err(ConvertError::Interrupted)), "{calls}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
