//! Pulls in a process of their own, with an environment of their own, that a test may kill: the test binary itself, with
//! its ignored test `child` as the only one.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use hub::{NoProgress, Store};

/// Stand around the child's answer in the output of the test harness.
const ANSWER: &str = "ANSWER ";
const END: &str = "\nEND";

/// Variables that lead the client elsewhere.
const VARIABLES: [&str; 5] = ["HF_TOKEN", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "ALL_PROXY"];

/// What the test `child` does.
pub fn main() {
    let variable = |name| std::env::var(name).unwrap();
    let store = Store::open(Path::new(&variable("HUB_HOME"))).unwrap();
    let model = variable("HUB_MODEL");
    let answer = match std::env::var("HUB_PUSH") {
        _ if std::env::var_os("HUB_DELETE").is_some() => {
            hub::delete(&model, &NoProgress).map(|deleted| format!("{} {}", deleted.reference, deleted.digest))
        }
        Ok(name) => hub::push(&name, &model, &store, &NoProgress)
            .map(|pushed| format!("{} uploaded={}", pushed.digest, pushed.uploaded)),
        Err(_) => hub::pull(&model, &store, &NoProgress, false)
            .map(|pulled| format!("{} {} present={}", pulled.name, pulled.digest, pulled.present)),
    };
    match answer {
        Ok(text) => println!("{ANSWER}{text}{END}"),
        Err(error) => println!("{ANSWER}{error}\nhint: {}{END}", error.hint().unwrap_or_default()),
    }
}

/// A home for a store, and the variables of the processes that use it.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub environment: Vec<(String, String)>,
}

impl Home {
    pub fn new(environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Self { folder: tempfile::tempdir().unwrap(), environment }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }

    pub fn start(&self, model: &str, more: &[(&str, &str)]) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.env("HUB_HOME", self.path()).env("HUB_MODEL", model);
        command.envs(self.environment.iter().cloned()).envs(more.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Pulls, and gives what the child answered.
    pub fn pull_with(&self, model: &str, more: &[(&str, &str)]) -> String {
        answer(self.start(model, more).wait_with_output().unwrap())
    }

    pub fn pull(&self, model: &str) -> String {
        self.pull_with(model, &[])
    }

    /// Files that lie in the store's folder, and below.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path().join("store").join(folder)];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    /// Bytes that interrupted downloads have left.
    pub fn received(&self) -> u64 {
        let data = self.files("tmp").into_iter().filter(|path| path.ends_with("data"));
        data.map(|path| std::fs::metadata(path).map_or(0, |file| file.len())).sum()
    }
}

/// What a child answered.
pub fn answer(output: Output) -> String {
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let answer = text.split_once(ANSWER).and_then(|(_, rest)| rest.split_once(END));
    answer.unwrap_or_else(|| panic!("no answer: {text}{errors}")).0.to_owned()
}
