//! Files of a model that is split into parts: `NAME-00001-of-00003.gguf`, and so with `.safetensors`.

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard<'a> {
    /// What all parts begin with.
    pub stem: &'a str,
    /// From 1.
    pub part: u32,
    pub of: u32,
}

impl<'a> Shard<'a> {
    /// `None` for a file that is no part of several.
    pub fn parse(file: &'a str) -> Option<Self> {
        let (name, _) = file.rsplit_once('.')?;
        let number = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
        let (rest, of) = name.rsplit_once("-of-")?;
        let (stem, part) = rest.rsplit_once('-')?;
        let (part, of) = (number(part)?, number(of)?);
        (of > 1).then_some(Self { stem, part, of })
    }
}

/// Whether these are all the parts of one model, each once.
pub fn complete(files: &[&str]) -> bool {
    let Some(shards) = files.iter().map(|file| Shard::parse(file)).collect::<Option<Vec<_>>>() else { return false };
    let Some(first) = shards.first() else { return false };
    let mut parts: Vec<u32> = shards.iter().map(|shard| shard.part).collect();
    parts.sort_unstable();
    shards.iter().all(|shard| shard.stem == first.stem && shard.of == first.of)
        && parts.iter().copied().eq(1..=first.of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_recognized() {
        assert_eq!(Shard::parse("a/m-00002-of-00003.gguf"), Some(Shard { stem: "a/m", part: 2, of: 3 }));
        for file in ["m.gguf", "m-00001-of-00001.gguf", "m-1-of-3.gguf", "m-00001-of-00003"] {
            assert_eq!(Shard::parse(file), None, "{file}");
        }
        assert!(complete(&["m-00002-of-00002.gguf", "m-00001-of-00002.gguf"]));
        for files in [&["m-00001-of-00002.gguf"][..], &["m-00001-of-00002.gguf", "n-00002-of-00002.gguf"], &[], &["a"]]
        {
            assert!(!complete(files), "{files:?}");
        }
    }
}
