//! `README.md` of a Hugging Face folder: the model card, of which only the front matter is for machines.

use std::path::Path;

use super::json::read_bytes;

pub(crate) const CARD_FILE: &str = "README.md";

/// The `license:` line in the front matter of the card; `None` where there is no such line or no card.
pub(crate) fn licence(folder: &Path) -> Option<String> {
    let text = String::from_utf8(read_bytes(&folder.join(CARD_FILE)).ok()?).ok()?;
    let matter = text.strip_prefix("---\n")?.split_once("\n---")?.0;
    let licence = matter.lines().find_map(|line| line.strip_prefix("license:"))?.trim();
    (!licence.is_empty()).then(|| licence.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_read_from_the_front_matter_alone() {
        let folder = tempfile::tempdir().unwrap();
        let card = folder.path().join(CARD_FILE);
        assert_eq!(licence(folder.path()), None);
        std::fs::write(&card, "---\nlicense: apache-2.0\ntags: [a]\n---\n# A model\n").unwrap();
        assert_eq!(licence(folder.path()).as_deref(), Some("apache-2.0"));
        std::fs::write(&card, "# A model\nlicense: mit\n").unwrap();
        assert_eq!(licence(folder.path()), None);
    }
}
