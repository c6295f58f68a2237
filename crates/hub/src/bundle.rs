//! Models as one file, for machines without a network: an OCI image layout in a tar archive.
//!
//! ```text
//! oci-layout            the version of the layout
//! index.json            the manifest with its name
//! blobs/sha256/HEX      the manifest, the configuration, each file of the model, once
//! ```
//!
//! The documents stand first, so that a reader knows what is to come; every digest is checked in both directions. Other
//! tools that read such archives can read these, and ours theirs where they hold one model.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::Serialize;
use tar::{Archive, Builder, EntryType, Header};

use crate::error::At;
use crate::store::oci::{self, Descriptor, Index, Layout, Manifest};
use crate::store::{Digest, Hasher, Staged, Store};
use crate::{HubError, Progress, Result, StoreName};

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";

/// Largest document that is read into memory.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// More entries than any model has files.
const MOST_ENTRIES: usize = 10_000;

/// A model that went to or came from a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bundled {
    /// `repository:tag`.
    pub name: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of the model's files.
    pub size: u64,
}

/// Writes the model `name` to a file at `path`, which appears when it is whole.
///
/// # Errors
/// An unknown name, a damaged model, a file that exists or cannot be written.
pub fn export(name: &str, path: &Path, store: &Store, progress: &dyn Progress) -> Result<Bundled> {
    let name = StoreName::parse(name)?;
    store.resolve(&name)?;
    let (entry, bytes, manifest) = store.manifest_of(&name)?;
    if path.exists() {
        return Err(HubError::content(path.display(), "a new file", "one that exists"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut made = tempfile::Builder::new().prefix(".bundle-").tempfile_in(folder).at("create a file in", folder)?;
    let mut seen = HashSet::new();
    let blobs: Vec<&Descriptor> = manifest.blobs().filter(|blob| seen.insert(&blob.digest)).collect();
    let size = blobs.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
    progress.start(&format!("writing {}", name.short()), Some(size));
    let mut tar = Builder::new(BufWriter::new(made.as_file_mut()));
    let mut put =
        |name: &str, size: u64, data: &mut dyn Read| tar.append_data(&mut header(size), name, data).at("write", path);
    let layout = to_json(&Layout { image_layout_version: oci::LAYOUT_VERSION.to_owned() }, path)?;
    let index = to_json(&index_of(&name, &entry), path)?;
    put(LAYOUT, layout.len() as u64, &mut &layout[..])?;
    put(INDEX, index.len() as u64, &mut &index[..])?;
    put(&format!("{BLOBS}{}", entry.digest.hex()), bytes.len() as u64, &mut &bytes[..])?;
    for blob in blobs.iter().filter(|blob| blob.digest != entry.digest) {
        let at = store.blob(&blob.digest);
        let file = File::open(&at).at("open", &at)?;
        let mut reader = Watched { inner: file.take(blob.size), sum: Hasher::default(), progress };
        put(&format!("{BLOBS}{}", blob.digest.hex()), blob.size, &mut reader)?;
        let found = reader.sum.finish();
        if found != blob.digest {
            return Err(HubError::store(&at, &blob.digest, found));
        }
    }
    tar.into_inner().and_then(|mut file| file.flush()).at("write", path)?;
    made.as_file().sync_all().at("write", path)?;
    made.persist_noclobber(path).map_err(|error| error.error).at("write", path)?;
    progress.finish();
    Ok(Bundled { name: name.to_string(), digest: entry.digest, size })
}

/// Brings the model of a bundle into the store, under its own name or `name`.
///
/// # Errors
/// A file that is no bundle of one model; bytes that do not have their digests; a name that another model has. The store
/// is then as before.
pub fn import(path: &Path, name: Option<&StoreName>, store: &Store, progress: &dyn Progress) -> Result<Bundled> {
    let file = File::open(path).at("open", path)?;
    let total = file.metadata().at("read", path)?.len();
    let refuse = |expected: &str, found: String| HubError::content(path.display(), expected, found);
    let not_tar = |error: io::Error| refuse("a bundle: an OCI image layout in a tar archive", error.to_string());
    let mut staging = store.stage()?;
    let mut staged: HashMap<Digest, Staged> = HashMap::new();
    let mut index: Option<Index> = None;
    progress.start("reading the bundle", Some(total));
    let mut archive = Archive::new(BufReader::new(file));
    for (count, entry) in archive.entries().map_err(not_tar)?.enumerate() {
        let mut entry = entry.map_err(not_tar)?;
        if count == MOST_ENTRIES {
            return Err(refuse("a bundle of one model", format!("more than {MOST_ENTRIES} entries")));
        }
        let member = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Regular => {}
            other => return Err(refuse("a bundle of plain files", format!("`{member}` of type {other:?}"))),
        }
        match member.strip_prefix(BLOBS).map(|hex| Digest::try_from(format!("sha256:{hex}"))) {
            Some(Ok(digest)) => {
                let staged_file = staging.copy(&mut entry, progress, not_tar)?;
                if staged_file.digest != digest {
                    return Err(refuse(&format!("{member} with {digest}"), staged_file.digest.to_string()));
                }
                staged.insert(digest, staged_file);
            }
            None if member == INDEX => {
                let bytes = document(&mut entry, path)?;
                index = Some(serde_json::from_slice(&bytes).map_err(|e| refuse("an OCI image index", e.to_string()))?);
            }
            // Docker's own listing, which the same archive may hold.
            None if member == LAYOUT || member == "manifest.json" || member == "repositories" => {}
            _ => return Err(refuse(&format!("{LAYOUT}, {INDEX} and {BLOBS}HEX"), format!("`{member}`"))),
        }
        if progress.stopped() {
            return Err(HubError::Stopped);
        }
    }
    progress.finish();
    let index = index.ok_or_else(|| refuse("a bundle", format!("no {INDEX}")))?;
    let [entry] = &index.manifests[..] else {
        return Err(refuse("a bundle of one model", format!("{}", index.manifests.len())));
    };
    let name = match (name, entry.annotation(oci::REF_NAME)) {
        (Some(name), _) => name.clone(),
        (None, Some(text)) => StoreName::parse(text)?,
        (None, None) => return Err(refuse("a bundle with the model's name", "none; give one".to_owned())),
    };
    let missing = |digest: &Digest| refuse(&format!("a bundle with the blob {digest}"), "none".to_owned());
    let manifest_file = staged.get(&entry.digest).ok_or_else(|| missing(&entry.digest))?;
    let bytes = document(&mut File::open(&manifest_file.path).at("open", &manifest_file.path)?, path)?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| refuse("an OCI image manifest", error.to_string()))?;
    let mut files = Vec::new();
    for blob in manifest.blobs() {
        match staged.remove(&blob.digest) {
            Some(file) if file.size == blob.size => files.push(file),
            Some(file) => {
                return Err(refuse(&format!("{} of {} bytes", blob.digest, blob.size), file.size.to_string()));
            }
            // Named twice.
            None if files.iter().any(|file| file.digest == blob.digest) => {}
            None => return Err(missing(&blob.digest)),
        }
    }
    store.adopt(staging, entry, &manifest, &bytes, &files, &name)?;
    let size = files.iter().map(|file| file.size).sum();
    Ok(Bundled { name: name.to_string(), digest: entry.digest.clone(), size })
}

/// The entry of the model as others may see it: a source on this machine stays here.
fn index_of(name: &StoreName, entry: &Descriptor) -> Index {
    let mut entry = entry.clone();
    if entry.annotation(oci::SOURCE).is_some_and(|source| source.starts_with("file:")) {
        entry.annotations.remove(oci::SOURCE);
    }
    entry.annotations.insert(oci::REF_NAME.to_owned(), name.to_string());
    Index { manifests: vec![entry], ..Index::default() }
}

/// Nothing of this machine is in a header: the same model gives the same bundle.
fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(EntryType::Regular);
    header
}

fn to_json(document: &impl Serialize, path: &Path) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(io::Error::from).at("write", path)
}

fn document(reader: &mut dyn Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > LARGEST_DOCUMENT {
        let expected = format!("documents of at most {LARGEST_DOCUMENT} bytes");
        return Err(HubError::content(path.display(), expected, "a larger one"));
    }
    Ok(bytes)
}

/// A reader that takes the digest of what passes, and tells of it.
struct Watched<'a, R> {
    inner: R,
    sum: Hasher,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.stopped() {
            return Err(io::Error::other("stopped"));
        }
        let n = self.inner.read(buffer)?;
        self.sum.update(&buffer[..n]);
        self.progress.advance(n as u64);
        Ok(n)
    }
}
