//! Which files of a repository are the model that a location means.

use std::collections::BTreeMap;

use super::api::RemoteFile;
use super::base_name;
use super::glob::{fits, is_glob};
use super::location::Location;
use crate::near::near;
use crate::shard::Shard;
use crate::store::LayerKind;
use crate::{HubError, Result};

/// Beside the weights of a folder in Hugging Face layout: settings, tokenizers, chat templates.
const SETTINGS: [&str; 15] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "model.safetensors.index.json",
];

/// More choices than this are not listed in an error.
const MOST_CHOICES: usize = 12;

type Selected<'a> = Vec<(&'a RemoteFile, LayerKind)>;

/// The files that a location means: the GGUF file or all parts of it; without a file the folder in Hugging Face layout,
/// or the one GGUF file that there is. A licence beside them comes along.
///
/// # Errors
/// No such file, none that can be used, or several models to choose from.
pub fn select<'a>(location: &Location, files: &'a [RemoteFile]) -> Result<Selected<'a>> {
    let origin = format!("hf:{}", location.repository);
    let mut selected = match location.file {
        Some(pattern) if is_glob(pattern) => {
            let is_match = |file: &&RemoteFile| fits(pattern, &file.path) || fits(pattern, base_name(&file.path));
            one_gguf(&origin, pattern, files.iter().filter(is_match), files)?
        }
        Some(path) if path.to_ascii_lowercase().ends_with(".gguf") => {
            let is_match = |file: &&RemoteFile| file.path == path || same_model(&file.path, path);
            one_gguf(&origin, path, files.iter().filter(is_match), files)?
        }
        _ => {
            let inside = |file: &&RemoteFile| inside(location, &file.path).is_some_and(|name| !name.contains('/'));
            let here: Vec<&RemoteFile> = files.iter().filter(inside).collect();
            match folder(&here) {
                Some(selected) => selected,
                None => one_gguf(&origin, location.file.unwrap_or("*.gguf"), here.into_iter(), files)?,
            }
        }
    };
    let is_license = |file: &&RemoteFile| {
        let upper = file.path.to_ascii_uppercase();
        ["LICENSE", "LICENSE.TXT", "LICENSE.MD", "LICENCE", "COPYING"].contains(&upper.as_str())
    };
    selected.extend(files.iter().find(is_license).map(|file| (file, LayerKind::Doc)));
    Ok(selected)
}

/// What a file is called in the model: its path without the folder that the location names, or its plain name.
pub fn name_in_model<'a>(location: &Location, path: &'a str) -> &'a str {
    inside(location, path).filter(|name| !name.contains('/')).unwrap_or_else(|| base_name(path))
}

fn inside<'a>(location: &Location, path: &'a str) -> Option<&'a str> {
    match location.file {
        Some(folder) if !is_glob(folder) => path.strip_prefix(folder)?.strip_prefix('/'),
        _ => Some(path),
    }
}

/// A folder in Hugging Face layout, if these files are one.
fn folder<'a>(files: &[&'a RemoteFile]) -> Option<Selected<'a>> {
    let named = |name: &str| files.iter().find(|file| base_name(&file.path) == name);
    named("config.json")?;
    // Other safetensors in a repository are adapters or the same weights in another layout.
    let weights: Vec<&RemoteFile> = match (named("model.safetensors.index.json"), named("model.safetensors")) {
        (Some(_), _) => {
            let is_part = |file: &&&RemoteFile| {
                let name = base_name(&file.path);
                name.ends_with(".safetensors") && Shard::parse(name).is_some_and(|shard| shard.stem == "model")
            };
            files.iter().filter(is_part).copied().collect()
        }
        (None, Some(single)) => vec![*single],
        (None, None) => Vec::new(),
    };
    let settings = files.iter().filter(|file| SETTINGS.contains(&base_name(&file.path)));
    let layers = settings.map(|file| (*file, LayerKind::Config));
    (!weights.is_empty()).then(|| layers.chain(weights.iter().map(|file| (*file, LayerKind::Weights))).collect())
}

/// The one model among GGUF files, which may be in several parts.
fn one_gguf<'a>(
    origin: &str,
    wanted: &str,
    candidates: impl Iterator<Item = &'a RemoteFile>,
    all: &[RemoteFile],
) -> Result<Selected<'a>> {
    // `mmproj` files hold the vision part of a model; they are no model by themselves.
    let is_model = |path: &str| {
        let name = base_name(path).to_ascii_lowercase();
        name.ends_with(".gguf") && (!name.contains("mmproj") || wanted.contains("mmproj"))
    };
    let mut models: BTreeMap<&str, Vec<&RemoteFile>> = BTreeMap::new();
    for file in candidates.filter(|file| is_model(&file.path)) {
        models.entry(Shard::parse(&file.path).map_or(file.path.as_str(), |shard| shard.stem)).or_default().push(file);
    }
    let refuse = |found: String, hint: Option<String>| {
        let expected = format!("one model `{wanted}`");
        Err(HubError::Content { origin: origin.to_owned(), expected, found, hint })
    };
    let choices = |paths: &mut dyn Iterator<Item = String>| {
        let mut names: Vec<String> = paths.take(MOST_CHOICES + 1).collect();
        if names.len() > MOST_CHOICES {
            names[MOST_CHOICES] = "…".to_owned();
        }
        (!names.is_empty()).then(|| format!("the repository has {}", names.join(", ")))
    };
    match (models.pop_first(), models.len()) {
        (Some((stem, parts)), 0) => {
            let names: Vec<&str> = parts.iter().map(|file| file.path.as_str()).collect();
            if stem != names[0] && !crate::shard::complete(&names) {
                return refuse(format!("{} of its parts", names.len()), None);
            }
            Ok(parts.into_iter().map(|file| (file, LayerKind::Weights)).collect())
        }
        (None, _) => {
            let near = near(wanted, all.iter().map(|file| file.path.as_str()));
            let ggufs = all.iter().filter(|file| is_model(&file.path)).map(|file| file.path.clone());
            let mut like = near.into_iter().chain(ggufs.collect::<Vec<_>>());
            let hint = choices(&mut like);
            refuse(format!("none among its {} files", all.len()), hint)
        }
        (Some((first, _)), others) => {
            let stems = std::iter::once(first).chain(models.into_keys()).map(str::to_owned);
            let hint = choices(&mut stems.collect::<Vec<_>>().into_iter());
            refuse(format!("{}", others + 1), hint)
        }
    }
}

/// Whether two paths are parts of one model.
fn same_model(a: &str, b: &str) -> bool {
    matches!((Shard::parse(a), Shard::parse(b)), (Some(a), Some(b)) if (a.stem, a.of) == (b.stem, b.of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ContentHash;

    fn files(paths: &[&str]) -> Vec<RemoteFile> {
        let file =
            |path: &&str| RemoteFile { path: (*path).to_owned(), hash: ContentHash::Git(String::new()), size: 1 };
        paths.iter().map(file).collect()
    }

    fn selected(location: &str, paths: &[&str]) -> Result<Vec<String>> {
        let files = files(paths);
        let selected = select(&Location::parse(location).unwrap(), &files)?;
        Ok(selected.into_iter().map(|(file, _)| file.path.clone()).collect())
    }

    const GGUFS: [&str; 5] = ["README.md", "LICENSE", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-Q8_0.gguf"];

    #[test]
    fn gguf_files() {
        assert_eq!(selected("a/b/m-Q8_0.gguf", &GGUFS).unwrap(), ["m-Q8_0.gguf", "LICENSE"]);
        assert_eq!(selected("a/b/*q4_k_m*", &GGUFS).unwrap(), ["m-Q4_K_M.gguf", "LICENSE"]);
        let parts = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf", "x.gguf"];
        for location in ["a/b/q/m-00001-of-00002.gguf", "a/b/m-*", "a/b/q"] {
            assert_eq!(selected(location, &parts).unwrap(), parts[..2], "{location}");
        }
        assert_eq!(selected("a/b", &["m.gguf", "config.json"]).unwrap(), ["m.gguf"]);
    }

    #[test]
    fn folders() {
        let paths = [
            "README.md",
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "adapter.safetensors",
            "onnx/model.onnx",
            "original/consolidated.00.pth",
            "LICENSE",
        ];
        let expected = ["config.json", "tokenizer.json", "model.safetensors", "LICENSE"];
        assert_eq!(selected("a/b", &paths).unwrap(), expected);
        let sharded = [
            "config.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "consolidated.safetensors",
        ];
        assert_eq!(selected("a/b", &sharded).unwrap(), sharded[..4]);
        let below = ["sub/config.json", "sub/model.safetensors"];
        assert_eq!(selected("a/b/sub", &below).unwrap(), below);
        assert_eq!(name_in_model(&Location::parse("a/b/sub").unwrap(), "sub/config.json"), "config.json");
    }

    #[test]
    fn what_cannot_be_decided_lists_the_choices() {
        for (location, expected) in [
            ("a/b", "expected one model `*.gguf`, found 2"),
            ("a/b/*", "found 2"),
            ("a/b/m-Q5_0.gguf", "expected one model `m-Q5_0.gguf`, found none among its 5 files"),
            ("a/b/nothing", "found none"),
        ] {
            let error = selected(location, &GGUFS).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().unwrap().contains("m-Q8_0.gguf"), "{location}");
        }
        let error = selected("a/b", &["m-00001-of-00002.gguf"]).unwrap_err().to_string();
        assert!(error.contains("found 1 of its parts"), "{error}");
    }
}
