//! Says what a file that is not the expected one looks like.

/// What a file's first bytes tell.
pub(crate) struct Guess {
    pub found: String,
    pub hint: Option<&'static str>,
}

/// A kind of file: how it is recognized, its name, and what to do about it.
struct Kind {
    matches: fn(&[u8]) -> bool,
    name: &'static str,
    hint: Option<&'static str>,
}

const PYTORCH: Option<&str> = Some("if this holds PyTorch weights, save the model as safetensors first");
const FOLDER: Option<&str> = Some("give the folder that holds it");

static KINDS: [Kind; 13] = [
    Kind { matches: <[u8]>::is_empty, name: "an empty file", hint: Some("the download did not finish: get it again") },
    Kind { matches: |b| b.starts_with(b"GGUF"), name: "a GGUF file", hint: None },
    Kind {
        matches: |b| [b"lmgg", b"fmgg", b"tjgg", b"algg"].iter().any(|m| b.starts_with(*m)),
        name: "a GGML file, the format before GGUF",
        hint: Some("get a GGUF file of this model"),
    },
    Kind {
        matches: |b| b.starts_with(b"version https://git-lfs"),
        name: "a Git LFS pointer file, not the content",
        hint: Some("run `git lfs pull` in its repository"),
    },
    Kind { matches: |b| b.starts_with(b"PK\x03\x04"), name: "a zip archive (PyTorch weights, a wheel)", hint: PYTORCH },
    Kind { matches: |b| matches!(b, [0x80, 2..=5, ..]), name: "a Python pickle (PyTorch weights)", hint: PYTORCH },
    Kind { matches: is_safetensors, name: "a safetensors file", hint: FOLDER },
    Kind {
        matches: is_markup,
        name: "an HTML or XML page",
        hint: Some("the download gave a web page instead of the file"),
    },
    Kind { matches: |b| first_of_text(b) == Some(b'{'), name: "a JSON file", hint: FOLDER },
    Kind { matches: |b| b.starts_with(b"\x1f\x8b"), name: "a gzip archive", hint: Some("unpack it first") },
    Kind { matches: |b| b.get(257..262) == Some(b"ustar"), name: "a tar archive", hint: Some("unpack it first") },
    Kind { matches: |b| b.starts_with(b"\x93NUMPY"), name: "a NumPy array", hint: None },
    Kind { matches: |b| b.starts_with(b"\x89HDF"), name: "an HDF5 file", hint: None },
];

/// Recognizes a file by its first bytes.
pub(crate) fn guess(bytes: &[u8]) -> Guess {
    match KINDS.iter().find(|k| (k.matches)(bytes)) {
        Some(kind) => Guess { found: kind.name.to_owned(), hint: kind.hint },
        None => Guess { found: format!("bytes {:02x?}", &bytes[..bytes.len().min(8)]), hint: None },
    }
}

/// A header's length in eight bytes, then the header, a JSON object.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.starts_with(b"{")
}

fn is_markup(bytes: &[u8]) -> bool {
    first_of_text(bytes) == Some(b'<')
}

/// The first byte that is neither white space nor part of a byte order mark.
fn first_of_text(bytes: &[u8]) -> Option<u8> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    text.iter().take(256).copied().find(|b| !b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "an empty file"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer file, not the content"),
            (b"PK\x03\x04\x14\0", "a zip archive (PyTorch weights, a wheel)"),
            (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
            (b" \n<!DOCTYPE html>", "an HTML or XML page"),
            (b"{\"a\": 1}", "a JSON file"),
            (b"\x01\x02", "bytes [01, 02]"),
        ];
        for (bytes, name) in cases {
            assert_eq!(guess(bytes).found, name);
        }
    }
}
