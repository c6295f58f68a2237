//! A bundle, imported into an empty store: the bytes of a tar archive, or the documents to make one of.
//!
//! Mutations cannot find digests. So an input that begins with `{` is a list of documents with zero bytes between them: the
//! index, then blobs. `@N` in the index and in the first blob, the manifest, stands for the digest of blob N.

use hub::{Digest, NoProgress, Store};

pub fn run(input: &[u8]) {
    let bundle = if input.starts_with(b"{") { bundle_of(input) } else { input.to_vec() };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("bundle.tar");
    std::fs::write(&path, bundle).expect("room for temporary files");
    let store = Store::open(&folder.path().join("home")).expect("a new store");
    if let Ok(bundled) = hub::import(&path, None, &store, &NoProgress) {
        let listed = store.list().expect("a store that can be read");
        assert!(listed.iter().any(|entry| entry.digest == bundled.digest), "{bundled:?}");
    }
    let names = std::fs::read_dir(folder.path()).expect("a readable folder").count();
    assert_eq!(names, 2, "a file outside the store");
}

fn bundle_of(input: &[u8]) -> Vec<u8> {
    let mut documents: Vec<Vec<u8>> = input.split(|&byte| byte == 0).take(10).map(<[u8]>::to_vec).collect();
    for at in [1, 0] {
        for blob in (at + 1..documents.len()).rev() {
            let (mark, digest) = (format!("@{blob}"), Digest::of(&documents[blob]).to_string());
            if let Ok(text) = std::str::from_utf8(&documents[at]) {
                documents[at] = text.replace(&mark, &digest).into_bytes();
            }
        }
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (at, document) in documents.iter().enumerate() {
        let name =
            if at == 0 { "index.json".to_owned() } else { format!("blobs/sha256/{}", Digest::of(document).hex()) };
        let mut header = tar::Header::new_gnu();
        header.set_size(document.len() as u64);
        tar.append_data(&mut header, name, &document[..]).expect("memory");
    }
    tar.into_inner().expect("memory")
}
