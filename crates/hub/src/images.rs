//! Where packed weights are kept beside the store, one image a model, and when they are of no use any more.
//!
//! An image is named after its model's first file. A note beside it says what the model's files were when it was packed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::Digest;

const IMAGE: &str = "panels";
const PART: &str = "part";
const NOTE: &str = "json";

/// The images of a home folder.
#[derive(Clone, Debug)]
pub struct Images {
    folder: PathBuf,
}

/// Where an image is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlace {
    pub path: PathBuf,
    /// Changes whenever the model's files do.
    pub source: String,
}

/// What a file was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
}

impl Seen {
    fn now(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Self { path: path.canonicalize().ok()?, bytes: metadata.len(), modified })
    }
}

impl Images {
    pub fn new(home: &Path) -> Self {
        Self { folder: home.join("images") }
    }

    /// The folder of the images.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The place for the model in these files; `None` where they cannot be looked at.
    pub fn place<'a>(&self, files: impl Iterator<Item = &'a Path>) -> Option<ImagePlace> {
        let seen = files.map(Seen::now).collect::<Option<Vec<_>>>()?;
        let name = Digest::of(seen.first()?.path.as_os_str().as_encoded_bytes());
        let source = serde_json::to_string(&seen).ok()?;
        Some(ImagePlace { path: self.folder.join(format!("{}.{IMAGE}", name.hex())), source })
    }

    /// Makes the folder and notes what the image at `place` is made from, so that [`Self::sweep`] can tell when it is of no
    /// use any more.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn announce(&self, place: &ImagePlace) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(place.path.with_extension(NOTE), &place.source)
    }

    /// Removes images whose models are gone or have changed, and what processes left that were killed.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let useless = match path.extension().and_then(|e| e.to_str()) {
                Some(IMAGE) => !is_current(&path),
                Some(PART) => File::open(&path).is_ok_and(|file| file.try_lock().is_ok()),
                Some(NOTE) => !path.with_extension(IMAGE).exists() && !path.with_extension(PART).exists(),
                _ => false,
            };
            if useless {
                // Another process may have been faster.
                let _removed = fs::remove_file(&path);
            }
        }
    }
}

fn is_current(image: &Path) -> bool {
    let Ok(note) = fs::read(image.with_extension(NOTE)) else { return false };
    let Ok(seen) = serde_json::from_slice::<Vec<Seen>>(&note) else { return false };
    seen.iter().all(|file| Seen::now(&file.path).as_ref() == Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_goes_with_its_model() {
        let home = tempfile::tempdir().unwrap();
        let images = Images::new(home.path());
        let files: Vec<_> = ["kept", "changed", "gone"].map(|name| home.path().join(name)).into();
        let places = files.iter().map(|file| {
            fs::write(file, "weights").unwrap();
            let place = images.place([file.as_path()].into_iter()).unwrap();
            images.announce(&place).unwrap();
            fs::write(&place.path, "panels").unwrap();
            place
        });
        let places: Vec<_> = places.collect();
        images.sweep();
        assert!(places.iter().all(|place| place.path.exists()));
        fs::write(&files[1], "other weights").unwrap();
        fs::remove_file(&files[2]).unwrap();
        images.sweep();
        images.sweep();
        assert_eq!(places.iter().map(|place| place.path.exists()).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(fs::read_dir(images.folder()).unwrap().count(), 2);
        let other = images.place([files[1].as_path()].into_iter()).unwrap();
        assert!(other.path == places[1].path && other.source != places[1].source);
    }

    #[test]
    fn a_part_stays_while_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let images = Images::new(home.path());
        fs::create_dir_all(images.folder()).unwrap();
        let part = images.folder().join("x.part");
        let file = File::create(&part).unwrap();
        file.lock().unwrap();
        images.sweep();
        assert!(part.exists());
        drop(file);
        images.sweep();
        assert!(!part.exists());
    }

    #[test]
    fn files_that_are_not_there_have_no_place() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Images::new(home.path()).place([home.path().join("none").as_path()].into_iter()), None);
    }
}
