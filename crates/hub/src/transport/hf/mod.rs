//! `hf:org/name[@revision][/file-or-glob]`: a repository of the Hugging Face Hub, or of what speaks its HTTP.
//!
//! `HF_ENDPOINT` names another server; `HF_TOKEN` opens gated repositories and goes to that server only. The revision
//! is resolved to a commit first, and all files are of that commit. Large files are known by their SHA-256, small ones
//! by the SHA-1 that git gives them.

mod api;
mod glob;
mod location;
mod select;

use super::{Fetched, Source, Transport};
use crate::http::{Http, Wanted};
use crate::store::{NewLayer, Staging};
use crate::{HubError, Progress, Result, Scheme};
use api::Api;
use location::Location;

/// Times that a repository may change while it is fetched.
const MOST_CHANGES: u32 = 2;

pub struct Hub;

impl Transport for Hub {
    fn scheme(&self) -> Scheme {
        Scheme::Hf
    }

    fn describe(&self, location: &str) -> Result<Source> {
        let parsed = Location::parse(location)?;
        Ok(Source { location: location.to_owned(), name: parsed.name(), immutable: parsed.is_commit(), local: None })
    }

    fn fetch(&self, location: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
        let location = Location::parse(location)?;
        let http = Http::new(progress)?;
        let api = Api::from_environment(&http, location.repository)?;
        let mut changes = 0;
        loop {
            match fetch(&api, &location, staging, progress) {
                Err(HubError::Changed { .. }) if changes < MOST_CHANGES => changes += 1,
                other => return other,
            }
        }
    }
}

fn fetch(api: &Api, location: &Location, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
    progress.start(&format!("looking up {}", location.repository), None);
    let repository = api.resolve(location.revision)?;
    let files = api.files(&repository.commit)?;
    progress.finish();
    let mut layers = Vec::new();
    for (file, kind) in select::select(location, &files)? {
        let wanted = Wanted { name: base_name(&file.path).to_owned(), hash: file.hash.clone(), size: file.size };
        let staged = api.download(&repository.commit, file, &wanted, staging)?;
        // Names are relative to the folder that holds the model, where that is not the repository's own.
        layers.push(NewLayer { kind, file_name: select::name_in_model(location, &file.path).to_owned(), file: staged });
    }
    Ok(Fetched { layers, license: repository.license, revision: Some(repository.commit), ..Fetched::default() })
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
