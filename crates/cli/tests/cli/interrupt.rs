//! Ctrl-C outside a chat: status 130, nothing said, nothing left behind.

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Edgeling, tiny};

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn an_answer_under_way_ends() {
    let edgeling = Edgeling::new();
    let model = tiny();
    // Far more tokens than can be computed before the signal comes; greedy, as a draw may end the text.
    let args = ["run", &model, "hello", "--raw", "--temperature", "0", "--context", "1000000"];
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
    std::thread::sleep(std::time::Duration::from_millis(500));
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
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
