//! Ctrl-C outside a chat: status 130, nothing said, nothing left behind.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Edgeling, deep, tiny};

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn an_answer_under_way_ends() {
    let edgeling = Edgeling::new();
    let model = tiny();
    // This greedy answer goes on for tens of thousands of tokens; a draw may end the text.
    let args = ["run", &model, "the cat", "--raw", "--temperature", "0", "--context", "1000000"];
    let mut child = edgeling.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("error"));
    assert_eq!(fs::read_dir(edgeling.home.path()).unwrap().count(), 0);
}

#[test]
fn work_that_looks_out_for_nothing_ends_at_once() {
    let edgeling = Edgeling::new();
    let args = ["bench", &tiny(), "--repeat", "1000000", "--json"];
    let mut child = edgeling.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Once the binary has taken over the signal, any moment is the same.
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn half_a_file_of_logits_is_removed() {
    let edgeling = Edgeling::new();
    let folder = edgeling.home.path().join("out");
    fs::create_dir(&folder).unwrap();
    let out = folder.join("logits.npy");
    let tokens = vec!["1"; 20_000].join(",");
    let model = tiny();
    let args =
        ["logits", &model, "--tokens", &tokens, "--out", out.to_str().unwrap(), "--context", "20000", "--chunk", "1"];
    let child = edgeling.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_dir(&folder).unwrap().count() == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// Commands that write to a path of the folder, each with the model `deep`.
fn writers(model: &str, folder: &Path) -> Vec<Vec<String>> {
    let out = folder.join("out").to_str().unwrap().to_owned();
    let args = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    vec![args(&["quantize", model, "Q8_0", "--out", &out]), args(&["convert", model, "--to", "hf", "--out", &out])]
}

/// Starts a command and waits until the first trace of its output.
fn started(edgeling: &Edgeling, args: &[String], folder: &Path) -> Child {
    let child = edgeling.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_dir(folder).unwrap().count() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn half_a_model_is_removed() {
    let edgeling = Edgeling::new();
    let model = deep(edgeling.home.path(), 3000);
    let folder = edgeling.home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for args in writers(model.to_str().unwrap(), &folder) {
        let child = started(&edgeling, &args, &folder);
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{args:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn a_killed_command_leaves_no_result_and_can_be_run_again() {
    let edgeling = Edgeling::new();
    let model = deep(edgeling.home.path(), 3000);
    let before = fs::read(&model).unwrap();
    for (i, _) in writers("", Path::new("")).iter().enumerate() {
        let folder = edgeling.home.path().join(format!("folder{i}"));
        fs::create_dir(&folder).unwrap();
        let args = &writers(model.to_str().unwrap(), &folder)[i];
        let mut child = started(&edgeling, args, &folder);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!folder.join("out").exists(), "{args:?}");
        edgeling.run(args).success();
        assert!(folder.join("out").exists());
    }
    assert!(fs::read(&model).unwrap() == before);
}

#[test]
fn measuring_ends_at_once() {
    let edgeling = Edgeling::new();
    let model = deep(edgeling.home.path(), 300);
    let text = edgeling.home.path().join("text");
    fs::write(&text, "the winter in the inn ".repeat(20_000)).unwrap();
    let (model, text) = (model.to_str().unwrap(), text.to_str().unwrap());
    let temporary = edgeling.home.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let cases: [&[&str]; 4] = [
        &["eval", model, "--text", text],
        &["compare", model, "--text", text],
        &["compare", model, model, "--text", text, "--base", model],
        &["compare", model, "--repeat", "100000"],
    ];
    for args in cases {
        let mut command = edgeling.command(args);
        command.env("TMPDIR", &temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        // As a terminal does: the signal goes to all processes of the command.
        interrupt(&child);
        let start = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{args:?}: {:?}", start.elapsed());
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{args:?}");
    }
}

/// A file that cannot grow stands for a full disk.
#[test]
fn a_full_disk_leaves_nothing() {
    let edgeling = Edgeling::new();
    let model = deep(edgeling.home.path(), 30);
    let folder = edgeling.home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let logits = ["logits", model.to_str().unwrap(), "--tokens", &vec!["1"; 3000].join(","), "--context", "3000"];
    let logits = logits.map(str::to_owned).into_iter().chain(["--out".to_owned(), format!("{}/out", folder.display())]);
    for args in writers(model.to_str().unwrap(), &folder).into_iter().chain([logits.collect()]) {
        let command = edgeling.command(&args);
        let limit = "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"";
        let mut limited = Command::new("sh");
        limited.args(["-c", limit]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(key, value),
                None => limited.env_remove(key),
            };
        }
        let output = limited.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains("folder"), "{args:?}: {said}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{args:?}");
    }
}
