//! From MODEL to a file or folder: the first thing that every command does.

use std::path::{Path, PathBuf};

use crate::alias::alias;
use crate::pull::{self, Origin, Pulled};
use crate::{Digest, HubError, Progress, Reference, Result, Store, StoreName};

/// What to do about a model that is known but not on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Pull it.
    Pull,
    /// Fail, and say how to pull it.
    Fail,
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// A file or a folder. A file in the store is named by its digest: its format shows in its content only.
    pub path: PathBuf,
    /// What to call the model: its name in the store, or the path as it was given.
    pub name: String,
    /// Of the file, where the store has it.
    pub digest: Option<Digest>,
}

/// A folder with one of these holds a model, or at least a tokenizer.
const MODEL_FILES: [&str; 3] = ["config.json", "tokenizer.json", "tekken.json"];

/// Finds a model: what exists under that path, else what the store has under that name or from that source, else what
/// can be pulled. A folder that shares its plain name with a model (`smollm2`) counts if it holds a model itself.
///
/// # Errors
/// Text that is no reference, a model that nobody knows, and what [`crate::pull`] can fail with.
pub fn locate(model: &str, store: &Store, missing: Missing, progress: &dyn Progress) -> Result<Location> {
    let path = Path::new(model);
    let reference = Reference::parse(model);
    let explicit = !matches!(reference, Ok(Reference::Name(_)));
    if path.is_file() || (path.is_dir() && (explicit || MODEL_FILES.iter().any(|file| path.join(file).exists()))) {
        return Ok(local(path));
    }
    match reference? {
        Reference::Path(path) => Err(no_path(&path)),
        Reference::Name(name) => locate_name(&name, path, store, missing, progress),
        Reference::Remote { scheme, location } => {
            let origin = Origin::new(scheme, &location)?;
            match &origin.source.local {
                Some(path) if path.exists() => Ok(local(path)),
                Some(path) => Err(no_path(path)),
                None => match pull::held(&origin, store)? {
                    Some(held) => Ok(held.into()),
                    None => fetch(model, store, missing, progress),
                },
            }
        }
    }
}

fn locate_name(
    name: &StoreName,
    path: &Path,
    store: &Store,
    missing: Missing,
    progress: &dyn Progress,
) -> Result<Location> {
    if store.find(name)?.is_some() {
        let weights = store.resolve(name)?;
        return Ok(Location { path: weights.path, name: name.to_string(), digest: Some(weights.digest) });
    }
    if alias(name).is_some() {
        return fetch(&name.short(), store, missing, progress);
    }
    if path.is_dir() {
        let found = format!("a folder without {}", MODEL_FILES.join(" or "));
        return Err(HubError::content(path.display(), "a name in the store, or a folder with a model", found));
    }
    Err(pull::unknown(&name.short(), store))
}

fn fetch(model: &str, store: &Store, missing: Missing, progress: &dyn Progress) -> Result<Location> {
    match missing {
        Missing::Pull => pull::pull(model, store, progress, false).map(Location::from),
        Missing::Fail => Err(HubError::NotPulled { model: model.to_owned() }),
    }
}

fn local(path: &Path) -> Location {
    Location { path: path.to_owned(), name: path.display().to_string(), digest: None }
}

fn no_path(path: &Path) -> HubError {
    HubError::content(path.display(), "a file or folder", "nothing of that name")
}

impl From<Pulled> for Location {
    fn from(pulled: Pulled) -> Self {
        Self { path: pulled.path, name: pulled.name, digest: Some(pulled.digest) }
    }
}
