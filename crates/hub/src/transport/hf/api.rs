//! The three calls of the Hub's HTTP API that a pull needs: a revision, the tree of files, a file.

use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;

use crate::http::{ContentHash, Http, Request, Response, Wanted, parse_url};
use crate::store::{Digest, Staged, Staging};
use crate::{HubError, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// Largest answer of the API, and pages of files, that are read.
const LARGEST: usize = 32 << 20;
const MOST_PAGES: usize = 100;

pub struct Api<'a> {
    http: &'a Http<'a>,
    endpoint: Url,
    token: Option<String>,
    /// `org/name`.
    repository: &'a str,
}

/// A repository at one commit.
pub struct Repository {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// SPDX expression.
    pub license: Option<String>,
}

#[derive(Debug)]
pub struct RemoteFile {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
}

#[derive(Deserialize)]
struct RevisionAnswer {
    sha: String,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    /// SHA-256, 64 hexadecimal digits.
    oid: String,
    size: u64,
}

impl<'a> Api<'a> {
    /// The server of `HF_ENDPOINT`, with the token of `HF_TOKEN`.
    ///
    /// # Errors
    /// An endpoint that is no address of the web.
    pub fn from_environment(http: &'a Http<'a>, repository: &'a str) -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        let mut endpoint = parse_url(variable("HF_ENDPOINT").as_deref().unwrap_or(ENDPOINT).trim())?;
        // Paths are joined below an endpoint that may have one of its own.
        endpoint.set_path(&format!("{}/", endpoint.path().trim_end_matches('/')));
        let token = variable("HF_TOKEN").map(|token| token.trim().to_owned());
        Ok(Self { http, endpoint, token, repository })
    }

    /// The commit that a revision means now.
    pub fn resolve(&self, revision: &str) -> Result<Repository> {
        let url = self.url(&format!("api/models/{}/revision/{revision}", self.repository))?;
        let response = self.http.expect(&self.request(url)?, &|response| self.hint(response))?;
        let answer: RevisionAnswer = json(response)?.0;
        if answer.sha.len() != 40 || !answer.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(HubError::content(
                self.origin(),
                "a commit of 40 hexadecimal digits",
                format!("`{}`", answer.sha),
            ));
        }
        let license = answer.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(spdx);
        Ok(Repository { commit: answer.sha, license })
    }

    /// All files of a commit.
    pub fn files(&self, commit: &str) -> Result<Vec<RemoteFile>> {
        let mut next = Some(self.url(&format!("api/models/{}/tree/{commit}?recursive=true", self.repository))?);
        let (mut files, mut pages) = (Vec::new(), 0);
        while let Some(url) = next.take() {
            let (entries, link): (Vec<TreeEntry>, _) =
                json(self.http.expect(&self.request(url.clone())?, &|response| self.hint(response))?)?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                files.push(self.file(entry)?);
            }
            next = link.as_deref().and_then(next_page).and_then(|link| url.join(&link).ok());
            // The token is for one server.
            next = next.filter(|next| next.origin() == self.endpoint.origin());
            pages += 1;
            if pages == MOST_PAGES {
                break;
            }
        }
        Ok(files)
    }

    /// Stages a file of a commit.
    pub fn download(&self, commit: &str, file: &RemoteFile, wanted: &Wanted, staging: &mut Staging) -> Result<Staged> {
        let mut url = self.url(&format!("{}/resolve/{commit}", self.repository))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(file.path.split('/'));
        }
        self.http.download(&self.request(url)?, wanted, staging, &|response| self.hint(response))
    }

    fn file(&self, entry: TreeEntry) -> Result<RemoteFile> {
        let (hash, size) = match entry.lfs {
            Some(large) => (Digest::try_from(format!("sha256:{}", large.oid)).map(ContentHash::Sha256), large.size),
            None if entry.oid.len() == 40 && entry.oid.bytes().all(|b| b.is_ascii_hexdigit()) => {
                (Ok(ContentHash::Git(entry.oid)), entry.size)
            }
            None => (Err(format!("expected a git hash, found `{}`", entry.oid)), 0),
        };
        let hash = hash.map_err(|problem| {
            HubError::content(self.origin(), "the hash of each file", format!("{}: {problem}", entry.path))
        })?;
        Ok(RemoteFile { path: entry.path, hash, size })
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.endpoint.join(path).map_err(|error| HubError::content(path, "a path of the server", error))
    }

    fn request(&self, url: Url) -> Result<Request> {
        let request = Request::get(url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, &format!("Bearer {token}")),
            None => Ok(request),
        }
    }

    fn origin(&self) -> String {
        format!("hf:{}", self.repository)
    }

    /// What a refusal calls for. The Hub names its reason in `X-Error-Code`; it answers 401 for what does not exist and
    /// for what is private alike.
    fn hint(&self, response: &Response) -> Option<String> {
        let page = format!("{}{}", self.endpoint, self.repository);
        let code = response.header_on_the_way("x-error-code").unwrap_or_default();
        let token = "set HF_TOKEN to a token that may read it";
        Some(match (response.status().as_u16(), code) {
            (401 | 403, "GatedRepo") if self.token.is_none() => {
                format!("the model is gated: accept its terms at {page}, and {token}")
            }
            (401 | 403, "GatedRepo") => {
                format!("the model is gated: accept its terms at {page} with the account of HF_TOKEN")
            }
            (404, "RevisionNotFound") => "there is no such branch, tag or commit".to_owned(),
            (404, "EntryNotFound") => "the file is not in that revision".to_owned(),
            (401, _) if self.token.is_some() => "check the name, and that HF_TOKEN is valid and may read it".to_owned(),
            (401 | 404, _) => format!("check the name; if the repository is private, {token}"),
            (403, _) => format!("the token may not read this repository: {token}"),
            _ => return None,
        })
    }
}

/// The JSON of an answer, with its `Link` header.
fn json<T: serde::de::DeserializeOwned>(response: Response) -> Result<(T, Option<String>)> {
    let url = crate::http::origin(response.url());
    let link = response.header("link").map(str::to_owned);
    let bytes = response.bytes(LARGEST)?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| HubError::content(url, "the JSON of the Hugging Face API", error))?;
    Ok((value, link))
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let links = link.split(',').filter_map(|link| link.split_once(';'));
    let next = links.into_iter().find(|(_, parameters)| parameters.contains("rel=\"next\""))?;
    Some(next.0.trim().strip_prefix('<')?.strip_suffix('>')?.to_owned())
}

/// The SPDX expression for one of the Hub's licence names.
fn spdx(name: &str) -> String {
    match name {
        "apache-2.0" => "Apache-2.0".to_owned(),
        "mit" => "MIT".to_owned(),
        "bsd-3-clause" => "BSD-3-Clause".to_owned(),
        "cc-by-4.0" => "CC-BY-4.0".to_owned(),
        "cc-by-nc-4.0" => "CC-BY-NC-4.0".to_owned(),
        "cc-by-sa-4.0" => "CC-BY-SA-4.0".to_owned(),
        other => {
            let word: String =
                other.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
            format!("LicenseRef-{word}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        assert_eq!(next_page("<https://h/a?cursor=b>; rel=\"next\"").unwrap(), "https://h/a?cursor=b");
        assert_eq!(next_page("<a>; rel=\"prev\", </b>; rel=\"next\"").unwrap(), "/b");
        assert_eq!(next_page("<a>; rel=\"prev\""), None);
    }

    #[test]
    fn licences_become_spdx_expressions() {
        assert_eq!((spdx("apache-2.0").as_str(), spdx("llama3.2").as_str()), ("Apache-2.0", "LicenseRef-llama3.2"));
    }
}
