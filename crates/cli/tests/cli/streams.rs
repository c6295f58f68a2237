//! Data on standard output, everything else on standard error, and nothing but text in pipes.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::{Edgeling, tiny};

#[test]
fn pipes_get_no_escape_codes_and_no_bars() {
    let edgeling = Edgeling::new();
    let model = tiny();
    let text = edgeling.home.path().join("text");
    std::fs::write(&text, "some words to score ".repeat(60)).unwrap();
    let text = text.to_str().unwrap();
    edgeling.run(&["pull", &format!("file:{model}/model.gguf")]).success();
    let commands: [&[&str]; 8] = [
        &["list"],
        &["show", "model"],
        &["inspect", &model, "--tensors"],
        &["tokenize", &model, "hello"],
        &["run", &model, "hi", "--max-tokens", "3", "--temperature", "0"],
        &["eval", &model, "--text", text, "--context", "64"],
        &["bench", &model, "--prompt", "8", "--generate", "4", "--repeat", "1"],
        &["inspect", "/nowhere.gguf"],
    ];
    for args in commands {
        let done = edgeling.run(args);
        assert!(!done.stdout.contains('\x1b') && !done.stderr.contains('\x1b'), "{args:?}");
        assert!(!done.stderr.contains('\r'), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn colours_follow_the_environment() {
    let edgeling = Edgeling::new();
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = edgeling.command(&["inspect", &tiny()]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!coloured(&[]));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let edgeling = Edgeling::new();
    let mut command = edgeling.command(&["tokenize", &tiny()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than any pipe holds, so that the process meets the closed end.
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all("many words ".repeat(50_000).as_bytes()));
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
    writer.join().unwrap().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_standard_output_is_an_error() {
    let edgeling = Edgeling::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = edgeling.command(&["inspect", &tiny()]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: cannot write to standard output"), "{stderr}");
}

#[test]
fn errors_stay_text_on_standard_error_with_json() {
    let edgeling = Edgeling::new();
    edgeling.run(&["inspect", "nowhere.gguf", "--json"]).failed(1, &["nowhere.gguf"]);
}
