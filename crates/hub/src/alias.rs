//! Short names for models that can be pulled, each with several sources.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::StoreName;
use crate::store::Digest;

/// A model that goes by a short name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    pub title: String,
    /// By parameters: `micro`, `small` or `medium`.
    pub class: String,
    /// SPDX expression.
    pub license: String,
    /// Where it can be had; tried in this order.
    pub sources: Vec<AliasSource>,
}

/// One place to get a model from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasSource {
    /// With a scheme.
    pub reference: String,
    /// Of the weights file, 64 hexadecimal digits; none where the source decides, which checks its own digests.
    sha256: Option<String>,
    /// Bytes of the weights file, beside its digest.
    size: Option<u64>,
}

impl AliasSource {
    /// Digest and size that the weights file must have, where that is fixed. A test refuses rows with another text.
    pub fn pin(&self) -> Option<(Digest, u64)> {
        let digest = Digest::try_from(format!("sha256:{}", self.sha256.as_ref()?)).ok()?;
        Some((digest, self.size?))
    }
}

/// All aliases by the name they have in the store, the tag left out where it is `latest`.
pub fn aliases() -> &'static BTreeMap<String, Alias> {
    static ALIASES: LazyLock<BTreeMap<String, Alias>> = LazyLock::new(|| {
        // The text is part of the program, and a test reads it.
        serde_json::from_str(include_str!("aliases.json")).expect("aliases.json is well-formed")
    });
    &ALIASES
}

pub(crate) fn alias(name: &StoreName) -> Option<&'static Alias> {
    aliases().get(&name.short())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reference, transport};

    #[test]
    fn every_row_can_be_pulled() {
        assert!(aliases().contains_key("smollm2"));
        for (key, row) in aliases() {
            let name = StoreName::parse(key).unwrap();
            assert_eq!(&name.short(), key);
            assert_eq!(Reference::parse(key).unwrap(), Reference::Name(name));
            assert!(matches!(row.class.as_str(), "micro" | "small" | "medium"), "{key}: {}", row.class);
            assert!(!row.title.is_empty() && !row.license.is_empty() && !row.sources.is_empty(), "{key}");
            for source in &row.sources {
                let Ok(Reference::Remote { scheme, location }) = Reference::parse(&source.reference) else {
                    panic!("{key}: {} has no scheme", source.reference)
                };
                let described = transport::of(scheme).describe(&location).unwrap();
                assert_eq!(described.location, location, "{key}: not in its canonical form");
                assert!(described.local.is_none(), "{key}: is on one machine only");
                if source.sha256.is_some() || source.size.is_some() {
                    assert!(source.pin().is_some_and(|(_, size)| size > 0), "{key}: is no digest and size");
                    assert!(described.immutable, "{key}: pins what may change");
                }
            }
        }
    }
}
