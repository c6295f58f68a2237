//! A server that speaks the Hugging Face Hub's HTTP: one API with the files' addresses, and another host with the bytes
//! of the large ones.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Digest as _;

use super::server::{Asked, Reply, Server};

/// How the servers misbehave.
#[derive(Clone, Debug, Default)]
pub struct Mood {
    /// The API answers all with this.
    pub refusal: Option<Reply>,
    /// The storage refuses so many requests with 429 first.
    pub busy: usize,
    /// The storage ends each connection after so many bytes.
    pub cut: Option<usize>,
    pub dawdle: Option<Duration>,
    /// The storage changes this byte.
    pub wrong_byte: Option<usize>,
    /// The storage knows no ranges.
    pub no_ranges: bool,
    /// The tag of the bytes in storage is the number of the request.
    pub unsteady_etag: bool,
    /// After so many requests to the storage, `next` is what both servers have.
    pub change_after: Option<usize>,
}

pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub large: bool,
}

#[derive(Default)]
struct State {
    commit: String,
    files: Vec<Arc<File>>,
    next: Option<(String, Vec<Arc<File>>)>,
    mood: Mood,
    storage_requests: usize,
}

/// The two servers.
pub struct Hub {
    pub api: Server,
    pub storage: Server,
    state: Arc<Mutex<State>>,
}

pub fn sha256(bytes: &[u8]) -> String {
    hub::Digest::of(bytes).hex().to_owned()
}

pub fn git_sha1(bytes: &[u8]) -> String {
    let mut sha1 = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    sha1.update(bytes);
    sha1.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    /// Serves `org/name` at one commit with these files; those with GGUF or safetensors are large.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let state = Arc::new(Mutex::new(State { commit: "a".repeat(40), files: list(files), ..State::default() }));
        let storage = {
            let state = state.clone();
            Server::start(move |asked| state.lock().unwrap().storage(asked))
        };
        let api = {
            let (state, storage) = (state.clone(), storage.url.clone());
            Server::start(move |asked| state.lock().unwrap().api(asked, &storage))
        };
        Self { api, storage, state }
    }

    pub fn mood(&self, mood: Mood) {
        let mut state = self.state.lock().unwrap();
        (state.mood, state.storage_requests) = (mood, 0);
    }

    /// What there is after [`Mood::change_after`].
    pub fn next(&self, files: &[(&str, &[u8])]) {
        self.state.lock().unwrap().next = Some(("b".repeat(40), list(files)));
    }
}

fn list(files: &[(&str, &[u8])]) -> Vec<Arc<File>> {
    let is_large = |path: &str| path.ends_with(".gguf") || path.ends_with(".safetensors");
    let file =
        |(path, bytes): &(&str, &[u8])| File { path: (*path).into(), bytes: bytes.to_vec(), large: is_large(path) };
    files.iter().map(|pair| Arc::new(file(pair))).collect()
}

impl State {
    fn api(&mut self, asked: &Asked, storage: &str) -> Reply {
        if let Some(refusal) = &self.mood.refusal {
            return refusal.clone();
        }
        let json = |value: Value| Reply::new(200).body(value.to_string());
        let path = asked.path.split('?').next().unwrap();
        let rest = |prefix: &str| path.strip_prefix(prefix).map(str::to_owned);
        if let Some(revision) = rest("/api/models/org/name/revision/") {
            return match revision == "main" || revision == self.commit {
                true => json(json!({"sha": self.commit, "tags": ["gguf", "license:apache-2.0"]})),
                false => {
                    Reply::new(404).with("X-Error-Code", "RevisionNotFound").body("{\"error\":\"Invalid rev id\"}")
                }
            };
        }
        if rest("/api/models/org/name/tree/").is_some() {
            // Two pages, as long listings have.
            let entries: Vec<Value> = self.files.iter().map(|file| entry(file)).collect();
            let half = entries.len() / 2;
            return match asked.path.contains("cursor") || half == 0 {
                true => json(json!(entries[half..])),
                false => json(json!(entries[..half])).with("Link", format!("<{}&cursor=2>; rel=\"next\"", asked.path)),
            };
        }
        let Some(file) = rest("/org/name/resolve/").and_then(|rest| {
            let (_, path) = rest.split_once('/')?;
            self.files.iter().find(|file| file.path == path).cloned()
        }) else {
            return Reply::new(404).with("X-Error-Code", "EntryNotFound");
        };
        match file.large {
            false => Reply::file(asked, &file.bytes, &git_sha1(&file.bytes)),
            true => Reply::new(302)
                .with("Location", format!("{storage}/{}?signature=secret", file.path))
                .with("X-Linked-ETag", format!("\"{}\"", sha256(&file.bytes)))
                .with("X-Linked-Size", file.bytes.len()),
        }
    }

    fn storage(&mut self, asked: &Asked) -> Reply {
        self.storage_requests += 1;
        if self.mood.change_after.is_some_and(|after| self.storage_requests > after)
            && let Some((commit, files)) = self.next.take()
        {
            (self.commit, self.files) = (commit, files);
        }
        if self.storage_requests <= self.mood.busy {
            return Reply::new(429).with("Retry-After", 1);
        }
        let path = asked.path.split('?').next().unwrap().trim_start_matches('/');
        let Some(file) = self.files.iter().find(|file| file.path == path) else { return Reply::new(404) };
        let mut bytes = file.bytes.clone();
        if let Some(at) = self.mood.wrong_byte {
            bytes[at] ^= 1;
        }
        let etag = if self.mood.unsteady_etag { self.storage_requests.to_string() } else { sha256(&file.bytes) };
        let reply = match self.mood.no_ranges {
            true => Reply::new(200).body(bytes),
            false => Reply::file(asked, &bytes, &etag),
        };
        let cut = self.mood.cut.map(|cut| cut.min(reply.body.len()));
        Reply { cut, dawdle: self.mood.dawdle, ..reply }
    }
}

fn entry(file: &File) -> Value {
    match file.large {
        true => json!({"type": "file", "path": file.path, "size": file.bytes.len(), "oid": "0".repeat(40),
            "lfs": {"oid": sha256(&file.bytes), "size": file.bytes.len(), "pointerSize": 130}}),
        false => json!({"type": "file", "path": file.path, "size": file.bytes.len(), "oid": git_sha1(&file.bytes)}),
    }
}
