//! Packed weights kept in a file, which the next start maps instead of packing again.
//!
//! An image has a header, then the panels of all linear nodes as they lie in memory. The header says what the panels were
//! made from and how they are laid out; an image whose header is not the expected one is made anew. All tiers read the same
//! panels. A header is written only once the panels are on the disk, so an image that has one is whole.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use memmap2::Mmap;

use crate::buffer::Buffer;
use crate::plan::DecoderPlan;
use crate::quant::panel::LAYOUT_VERSION;

const MAGIC: &[u8; 8] = b"EDGPANEL";
/// The panels start at a multiple of this, which every system's page size divides.
const ALIGN: usize = 64 << 10;
/// Images below this size are not kept: their weights are packed sooner than a file pays off.
const SMALLEST: usize = 32 << 20;

/// Where a model's image is, or is to be.
#[derive(Clone)]
pub struct ImageFile {
    pub path: PathBuf,
    /// What the weights are: a digest, or what else changes whenever they do.
    pub source: String,
    /// Whether to keep an image where there is none.
    pub keep: bool,
    /// Told what becomes of an image that is to be kept.
    pub told: Arc<dyn Fn(ImageEvent) + Send + Sync>,
}

#[derive(Debug)]
pub enum ImageEvent {
    /// An image of so many bytes is about to be written.
    Keeping(usize),
    /// It could not be; the program runs all the same.
    Failed(io::Error),
}

/// The panels of all linear nodes.
pub enum Panels {
    Packed(Arc<Buffer<u8>>),
    Mapped { map: Mmap, start: usize },
}

impl Panels {
    /// The first panel, at a multiple of 64 bytes.
    pub fn ptr(&self) -> *const u8 {
        match self {
            Self::Packed(buffer) => buffer.ptr(),
            Self::Mapped { map, start } => map.as_ptr().wrapping_add(*start),
        }
    }
}

/// The header of an image of `plan` with `bytes` of panels, up to where they start.
fn header(file: &ImageFile, plan: &DecoderPlan, bytes: usize) -> Vec<u8> {
    let mut text = format!("layout {LAYOUT_VERSION}\nsource {}\npanels {bytes}\n", file.source);
    for linear in plan.linears() {
        let (weight, shard) = (&linear.weight, &linear.shard);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {} {shard:?}", weight.dtype, weight.rows, weight.cols);
    }
    let mut header = [MAGIC, text.as_bytes()].concat();
    header.resize(header.len().next_multiple_of(ALIGN), 0);
    header
}

/// Maps the image, if there is the right one.
pub fn open(file: &ImageFile, plan: &DecoderPlan, bytes: usize) -> Option<Panels> {
    let expected = header(file, plan, bytes);
    let mut image = File::open(&file.path).ok()?;
    if image.metadata().ok()?.len() != (expected.len() + bytes) as u64 {
        return None;
    }
    let mut found = vec![0; expected.len()];
    image.read_exact(&mut found).ok()?;
    if found != expected {
        return None;
    }
    // SAFETY: the mapping is read-only. The file belongs to the user alone, and is only ever replaced by renaming over it.
    let map = unsafe { Mmap::map(&image) }.ok()?;
    read_ahead(&map);
    Some(Panels::Mapped { map, start: expected.len() })
}

/// Asks for the image's pages before they are touched; a system that does not read ahead brings them then.
#[cfg_attr(not(unix), allow(unused_variables))]
fn read_ahead(image: &Mmap) {
    // Small pages would be looked up one by one: a tenth of the time of a token. `WillNeed` would read small ones.
    #[cfg(target_os = "linux")]
    if image.advise(memmap2::Advice::HugePage).is_ok() {
        return;
    }
    #[cfg(unix)]
    let _ = image.advise(memmap2::Advice::WillNeed);
}

/// Writes panels to their image on a thread of its own, while they are in use. Dropping it waits until the image is whole.
pub struct Keeper(Option<JoinHandle<()>>);

impl Keeper {
    /// Starts on the image of `panels`, which do not change any more. Where another process is at it already, that one goes on.
    pub fn start(file: &ImageFile, plan: &DecoderPlan, panels: &Arc<Buffer<u8>>) -> Option<Self> {
        let bytes = panels.as_slice().len();
        if !file.keep || bytes < SMALLEST {
            return None;
        }
        (file.told)(ImageEvent::Keeping(bytes));
        let (header, file, panels) = (header(file, plan, bytes), file.clone(), panels.clone());
        let work = move || {
            let part = file.path.with_extension("part");
            match write(&part, &header, panels.as_slice()).and_then(|()| fs::rename(&part, &file.path)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    let _removed = fs::remove_file(&part);
                    (file.told)(ImageEvent::Failed(error));
                }
            }
        };
        Some(Self(std::thread::Builder::new().name("image".to_owned()).spawn(work).ok()))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _done = thread.join();
        }
    }
}

/// Writes an image that is not whole until its header stands.
fn write(path: &Path, header: &[u8], panels: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.try_lock().map_err(io::Error::from)?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(header.len() as u64))?;
    file.write_all(panels)?;
    file.sync_data()?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header)?;
    file.sync_data()
}
