//! Commands of llama.cpp's tools as tutorials still have them, and what to run instead.

/// A name without path, `llama-`, `.py` and `.exe`, and with `_` for `-`; the command of today.
const RENAMED: [(&str, &str); 11] = [
    ("convert", CONVERT),
    ("convert_hf_to_gguf", CONVERT),
    ("convert_pth_to_ggml", CONVERT),
    ("quantize", "edgeling quantize model.gguf Q4_K_M --out model-q4_k_m.gguf"),
    ("main", RUN),
    ("cli", RUN),
    ("completion", RUN),
    ("bench", "edgeling bench model.gguf --prompt 512 --generate 128"),
    ("perplexity", "edgeling eval model.gguf --text wiki.txt"),
    ("tokenize", "edgeling tokenize model.gguf \"the text\""),
    ("gguf_dump", "edgeling inspect model.gguf --tensors"),
];

const CONVERT: &str = "edgeling convert FOLDER --to gguf --out model.gguf";
const RUN: &str = "edgeling run model.gguf \"the prompt\" --max-tokens 128";

/// Flags of those tools, which stand beside the right command's name too.
const FLAGS: [(&str, &str); 9] = [
    ("--outfile", "--out"),
    ("--outtype", "--dtype"),
    ("-n", "--max-tokens"),
    ("--n-predict", "--max-tokens"),
    ("-c", "--context"),
    ("--ctx-size", "--context"),
    ("-t", "--threads"),
    ("--temp", "--temperature"),
    ("-f", "--text"),
];

/// What to run instead of a command that does not exist, if it is a known one.
pub fn command(typed: &str) -> Option<String> {
    let name = typed.rsplit(['/', '\\']).next().unwrap_or(typed);
    let name = name.strip_suffix(".py").or_else(|| name.strip_suffix(".exe")).unwrap_or(name).replace('-', "_");
    let name = name.strip_prefix("llama_").unwrap_or(&name);
    RENAMED.iter().find(|(old, _)| *old == name).map(|(_, new)| format!("run `{new}`"))
}

/// What to write instead of a flag that does not exist, if it is a known one.
pub fn flag(typed: &str) -> Option<String> {
    let name = typed.split('=').next().unwrap_or(typed);
    if name == "-m" || name == "--model" {
        return Some("the model is the first argument: `edgeling run model.gguf`".to_owned());
    }
    if name == "-p" || name == "--prompt" {
        return Some("the prompt is the second argument: `edgeling run model.gguf \"the prompt\"`".to_owned());
    }
    FLAGS.iter().find(|(old, _)| *old == name).map(|(_, new)| format!("the flag is {new} here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_every_spelling() {
        for (typed, expected) in [
            ("convert.py", "convert FOLDER"),
            ("./convert-hf-to-gguf.py", "convert FOLDER"),
            ("convert_hf_to_gguf.py", "convert FOLDER"),
            ("llama-quantize", "quantize model.gguf"),
            ("build/bin/main", "run model.gguf"),
            ("llama-bench", "bench model.gguf"),
            ("llama-cli.exe", "run model.gguf"),
        ] {
            assert!(command(typed).is_some_and(|hint| hint.contains(expected)), "{typed}");
        }
        assert_eq!(command("frobnicate"), None);
        assert_eq!(flag("--outfile=x").as_deref(), Some("the flag is --out here"));
        assert_eq!(flag("--seed"), None);
    }
}
