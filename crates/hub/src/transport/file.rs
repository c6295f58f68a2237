//! `file:path`: a GGUF file on this machine.

use std::fs::File;
use std::path::Path;

use super::{Fetched, Source, Transport};
use crate::error::At;
use crate::store::{LayerKind, NewLayer, Staging};
use crate::{HubError, Progress, Result, Scheme, StoreName};

pub struct LocalFile;

impl Transport for LocalFile {
    fn scheme(&self) -> Scheme {
        Scheme::File
    }

    fn describe(&self, location: &str) -> Result<Source> {
        let path = std::path::absolute(location).at("find", Path::new(location))?;
        let in_utf8 = || HubError::content(path.display(), "a path in UTF-8", "another encoding");
        Ok(Source {
            location: path.to_str().ok_or_else(in_utf8)?.to_owned(),
            name: StoreName::of_file(&base_name(&path)),
            immutable: false,
            local: Some(path),
        })
    }

    fn fetch(&self, location: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
        let path = Path::new(location);
        super::refuse_shard(&format!("file:{location}"), &base_name(path))?;
        let mut file = File::open(path).at("open", path)?;
        let metadata = file.metadata().at("read", path)?;
        if !metadata.is_file() {
            let hint = Some("a folder is used where it is: give its path without `file:`".to_owned());
            let (expected, found) = ("a GGUF file".to_owned(), "a folder or device".to_owned());
            return Err(HubError::Content { origin: path.display().to_string(), expected, found, hint });
        }
        let file_name = base_name(path);
        progress.start(&format!("copying {file_name}"), Some(metadata.len()));
        let unreadable = |cause| HubError::Io { action: "read", path: path.to_owned(), cause };
        let copy = staging.copy(&mut file, progress, unreadable)?;
        progress.finish();
        let layers = vec![NewLayer { kind: LayerKind::Weights, file_name, file: copy }];
        Ok(Fetched { layers, ..Fetched::default() })
    }
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
