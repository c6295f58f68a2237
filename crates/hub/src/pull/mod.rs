//! Getting a model into the store.

mod origin;

use std::path::PathBuf;

use serde::Serialize;

use crate::alias::{Alias, AliasSource, alias, aliases};
use crate::near::near;
use crate::store::{Digest, Entry, Weights};
use crate::{HubError, Progress, Reference, Result, Store, StoreName};
pub(crate) use origin::Origin;
use origin::{About, Pin};

/// A model that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// `repository:tag`.
    pub name: String,
    /// Of the weights.
    pub digest: Digest,
    /// Bytes of the weights.
    pub size: u64,
    /// The weights in the store.
    pub path: PathBuf,
    /// Whether the model was in the store before, so that nothing was fetched.
    pub present: bool,
}

impl Pulled {
    fn new(name: &StoreName, weights: Weights, present: bool) -> Self {
        Self { name: name.to_string(), digest: weights.digest, size: weights.size, path: weights.path, present }
    }
}

/// Brings a model into the store, if it is not there yet.
///
/// An alias keeps its name; its sources are tried in order until one works and gives the bytes that are pinned, where they are. A reference gets the
/// name that its transport makes of it, and is fetched again unless it means the same bytes
/// for ever. A name that is in the store and is no alias has nothing to be fetched from, and stays as it is.
///
/// # Errors
/// Text that is no reference; a path; a name that nobody knows; a source that cannot be reached (or may not be, where
/// `offline`) or gives something else than it should, [`HubError::Sources`] where several do; a store that cannot be written. The store
/// is then as before.
pub fn pull(model: &str, store: &Store, progress: &dyn Progress, offline: bool) -> Result<Pulled> {
    let puller = Puller { store, progress, offline };
    match Reference::parse(model)? {
        Reference::Path(path) => Err(HubError::Content {
            origin: path.display().to_string(),
            expected: "a name or a reference with a scheme".to_owned(),
            found: "a path".to_owned(),
            hint: Some(format!("commands take a file where it is; `edgeling pull file:{}` copies it", path.display())),
        }),
        Reference::Name(name) => puller.name(&name),
        Reference::Remote { scheme, location } => puller.origin(&Origin::new(scheme, &location)?),
    }
}

/// Where models go, and how.
struct Puller<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    offline: bool,
}

impl Puller<'_> {
    fn name(&self, name: &StoreName) -> Result<Pulled> {
        let entry = self.store.find(name)?;
        let Some(alias) = alias(name) else {
            return match entry {
                Some(_) => Ok(Pulled::new(name, self.store.resolve(name)?, true)),
                None => Err(unknown(&name.short(), self.store)),
            };
        };
        if let Some(entry) = &entry
            && let Ok(weights) = self.store.resolve(name)
            && alias.sources.iter().any(|source| source.gave(entry, &weights))
        {
            return Ok(Pulled::new(name, weights, true));
        }
        let mut failures = Vec::new();
        for source in &alias.sources {
            match self.source(name, alias, source) {
                Ok(pulled) => return Ok(pulled),
                // Another source would not change these.
                Err(error @ (HubError::Stopped | HubError::Offline { .. } | HubError::Io { .. })) => return Err(error),
                Err(error) => failures.push((source.reference.clone(), error)),
            }
        }
        match (failures.pop(), failures.is_empty()) {
            (Some((_, only)), true) => Err(only),
            (last, _) => {
                failures.extend(last);
                Err(HubError::Sources { model: name.short(), failures })
            }
        }
    }

    fn source(&self, name: &StoreName, alias: &Alias, source: &AliasSource) -> Result<Pulled> {
        let origin = Origin::parse(&source.reference)?;
        let pin = source.pin().map(|(digest, size)| Pin { digest, size });
        let about = About { title: Some(alias.title.clone()), license: Some(alias.license.clone()), pin };
        self.fetch(name, &origin, about)
    }

    fn origin(&self, origin: &Origin) -> Result<Pulled> {
        if origin.source.immutable
            && let Some(pulled) = held(origin, self.store)?
        {
            return Ok(pulled);
        }
        let name = &origin.source.name;
        match self.store.find(name)? {
            Some(entry) if entry.source.as_ref() != Some(&origin.reference) => Err(HubError::Taken {
                name: name.short(),
                held: entry.source.unwrap_or_else(|| "an unknown source".to_owned()),
                wanted: origin.reference.clone(),
            }),
            _ => self.fetch(name, origin, About::default()),
        }
    }

    fn fetch(&self, name: &StoreName, origin: &Origin, about: About) -> Result<Pulled> {
        if self.offline && origin.source.local.is_none() {
            return Err(HubError::Offline { model: name.short() });
        }
        let mut staging = self.store.stage()?;
        let model = origin.fetch(name, about, &mut staging, self.progress)?;
        self.store.commit(staging, model)?;
        Ok(Pulled::new(name, self.store.resolve(name)?, false))
    }
}

impl AliasSource {
    /// Whether a model of the store is what this source gives: the pinned bytes, or whatever came from here.
    fn gave(&self, entry: &Entry, weights: &Weights) -> bool {
        match self.pin() {
            Some((digest, _)) => digest == weights.digest,
            None => entry.source.as_ref() == Some(&self.reference),
        }
    }
}

/// The model in the store that came from `origin`, whole, under whatever name.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn held(origin: &Origin, store: &Store) -> Result<Option<Pulled>> {
    for entry in store.list()? {
        if entry.source.as_ref() == Some(&origin.reference)
            && let Ok(name) = StoreName::parse(&entry.name)
            && let Ok(weights) = store.resolve(&name)
        {
            return Ok(Some(Pulled::new(&name, weights, true)));
        }
    }
    Ok(None)
}

/// The error for a name that is neither in the store nor an alias.
pub(crate) fn unknown(model: &str, store: &Store) -> HubError {
    let entries = store.list().unwrap_or_default();
    let held = entries.iter().map(|entry| entry.name.strip_suffix(":latest").unwrap_or(&entry.name));
    let near = near(model, held.chain(aliases().keys().map(String::as_str)));
    HubError::Unknown { model: model.to_owned(), expected: "a file, a folder, a name in the store or an alias", near }
}

#[cfg(test)]
mod tests;
