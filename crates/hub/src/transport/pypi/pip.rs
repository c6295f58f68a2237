//! Downloading a wheel with the user's own pip: its index, proxy, certificates and credentials are the ones configured.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::error::At;
use crate::{HubError, Progress, Result};

/// Between two looks at how far pip is: smooth for the eye, nothing for the CPU.
const POLL: Duration = Duration::from_millis(50);

/// Lines of pip's errors that are shown.
const LAST_LINES: usize = 6;

const NO_PYTHON: &str = "install Python 3 with pip, or set EDGELING_PYTHON to a Python that has it";

/// What pip's own words call for.
const HINTS: [(&str, &str); 4] = [
    ("No module named pip", "install pip (`python3 -m ensurepip`), or set EDGELING_PYTHON to a Python that has it"),
    ("Retrying (", "is the network up? A proxy or another index can be set in pip's configuration"),
    ("No matching distribution", "check the package's name and version, and the index that pip is configured to use"),
    ("No space left on device", "free some space, or set EDGELING_HOME to a folder on another disk"),
];

/// Downloads one wheel into a folder under `scratch` and gives its path. `requirement` is `package[==version]`.
///
/// # Errors
/// Python or pip is missing, or pip fails.
pub fn download(requirement: &str, scratch: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let (wheels, temporary) = (scratch.join("wheels"), scratch.join("tmp"));
    for folder in [&wheels, &temporary] {
        fs::create_dir(folder).at("create", folder)?;
    }
    let errors = scratch.join("errors");
    let python =
        std::env::var_os("EDGELING_PYTHON").filter(|p| !p.is_empty()).unwrap_or_else(|| OsString::from("python3"));
    let mut command = Command::new(&python);
    command.args(["-m", "pip", "download", "--only-binary=:all:", "--no-deps"]);
    // The store keeps the file: a second copy in pip's cache would outlive its removal.
    command.args(["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "-d"]);
    command.arg(&wheels).arg(requirement);
    for variable in ["TMPDIR", "TEMP", "TMP"] {
        command.env(variable, &temporary);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors).at("create", &errors)?);

    let shown = format!("{} -m pip download --only-binary=:all: --no-deps {requirement}", python.to_string_lossy());
    let failed_to_start = |cause: io::Error| {
        let hint =
            if cause.kind() == ErrorKind::NotFound { NO_PYTHON } else { "set EDGELING_PYTHON to a Python with pip" };
        HubError::Start { command: shown.clone(), cause, hint }
    };
    progress.start("downloading wheel", None);
    let mut child = command.spawn().map_err(failed_to_start)?;
    let mut seen = 0;
    let status = loop {
        let status = child.try_wait().map_err(failed_to_start)?;
        // pip moves and renames what it downloads; only growth is progress.
        let bytes = folder_size(scratch);
        progress.advance(bytes.saturating_sub(seen));
        seen = seen.max(bytes);
        match status {
            Some(status) => break status,
            None => thread::sleep(POLL),
        }
    };
    if !status.success() {
        let output = fs::read(&errors).at("read", &errors)?;
        let output = String::from_utf8_lossy(&output);
        let hint = HINTS.into_iter().find(|(words, _)| output.contains(words)).map(|(_, hint)| hint);
        return Err(HubError::Command {
            command: shown,
            status: status.to_string(),
            output: last_lines(&output),
            hint,
        });
    }
    progress.finish();
    only_wheel(&wheels, &shown)
}

fn only_wheel(folder: &Path, command: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()).at("read", folder)?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let mut wheels: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_wheel).collect();
    match (wheels.pop(), wheels.len()) {
        (Some(wheel), 0) => Ok(wheel),
        (first, others) => {
            let found = others + usize::from(first.is_some());
            Err(HubError::content(format!("`{command}`"), "one wheel", format!("{found}")))
        }
    }
}

/// Bytes of all files in a folder and below. Files come and go meanwhile: what cannot be read counts nothing.
fn folder_size(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(size).sum()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last: Vec<String> =
        lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).map(|line| format!("  {line}")).collect();
    last.join("\n")
}
