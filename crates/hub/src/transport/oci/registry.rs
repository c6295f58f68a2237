//! The calls of the OCI distribution specification 1.1 that pulling, pushing and deleting need.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::auth::{Challenge, Credentials};
use super::reference::{ImageReference, is_loopback};
use crate::error::At;
use crate::http::{Http, Patience, Request, Response, Wanted, origin, parse_url};
use crate::store::oci::{DOCKER_MANIFEST, MANIFEST};
use crate::store::{Digest, Staged, Staging};
use crate::{HubError, Progress, Result};

/// Largest manifest, as registries bound them, and largest answer of a token server.
const LARGEST: usize = 4 << 20;

/// Tags asked for at a time.
const TAGS: usize = 1000;

/// Bytes sent at a time. Larger blobs go in pieces of this size, smaller ones at once.
const CHUNK: u64 = 8 << 20;

const DELETING_IS_OFF: &str = "deleting is disabled in this registry: REGISTRY_STORAGE_DELETE_ENABLED=true in its \
    environment, or storage.delete.enabled in its configuration, allows it";

/// One repository of a registry.
pub struct Registry<'a> {
    http: &'a Http<'a>,
    reference: &'a ImageReference,
    base: Url,
    credentials: Option<Credentials>,
    /// The header that the registry accepted last.
    authorization: RefCell<Option<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct TagsAnswer {
    /// Null in a repository whose last tag is gone.
    tags: Option<Vec<String>>,
}

impl<'a> Registry<'a> {
    /// # Errors
    /// A host that cannot be part of an address.
    pub fn new(http: &'a Http<'a>, reference: &'a ImageReference) -> Result<Self> {
        let base = parse_url(&format!("{}/v2/{}/", reference.address(), reference.repository))?;
        let credentials = Credentials::find(reference);
        Ok(Self { http, reference, base, credentials, authorization: RefCell::default() })
    }

    /// The manifest's media type and bytes, which are what the registry's digest and the reference's say.
    pub fn manifest(&self) -> Result<(String, Vec<u8>)> {
        let request = Request::get(self.url(&format!("manifests/{}", self.reference.version))?);
        let request = request.header(ACCEPT, &format!("{MANIFEST}, {DOCKER_MANIFEST}"))?;
        let response = self.expect(request)?;
        let said = response.header("docker-content-digest").map(str::to_owned);
        let media_type =
            response.header("content-type").unwrap_or(MANIFEST).split(';').next().unwrap_or(MANIFEST).trim();
        let media_type = media_type.to_owned();
        let bytes = response.bytes(LARGEST)?;
        let found = Digest::of(&bytes).to_string();
        let expected = Some(&self.reference.version).filter(|_| self.reference.is_digest()).or(said.as_ref());
        if let Some(expected) = expected.filter(|expected| expected.starts_with("sha256:") && **expected != found) {
            return Err(HubError::content(self.reference, format!("a manifest with {expected}"), found));
        }
        if ![MANIFEST, DOCKER_MANIFEST].contains(&media_type.as_str()) {
            return Err(HubError::content(self.reference, format!("a manifest of type {MANIFEST}"), media_type));
        }
        Ok((media_type, bytes))
    }

    /// The digest of the manifest that a tag or a digest stands for.
    pub fn digest(&self, version: &str) -> Result<Digest> {
        let request = Request::new(Method::HEAD, self.url(&format!("manifests/{version}"))?);
        let response = self.expect(request.header(ACCEPT, &format!("{MANIFEST}, {DOCKER_MANIFEST}"))?)?;
        let said = response.header("docker-content-digest").unwrap_or(version).to_owned();
        Digest::try_from(said).map_err(|error| HubError::content(self.reference, "a manifest with a digest", error))
    }

    /// All tags of the repository.
    pub fn tags(&self) -> Result<Vec<String>> {
        let mut tags: Vec<String> = Vec::new();
        loop {
            let mut url = self.url("tags/list")?;
            url.query_pairs_mut()
                .append_pair("n", &TAGS.to_string())
                .extend_pairs(tags.last().map(|tag| ("last", tag)));
            let bytes = self.expect(Request::get(url))?.bytes(LARGEST)?;
            let answer: TagsAnswer = serde_json::from_slice(&bytes)
                .map_err(|error| HubError::content(self.reference, "a list of tags", error))?;
            let page = answer.tags.unwrap_or_default();
            // A registry that ignores what was asked for would give the same page for ever.
            let last = page.len() < TAGS || page.last() <= tags.last();
            tags.extend(page);
            if last {
                return Ok(tags);
            }
        }
    }

    /// Deletes a manifest, and with it all its tags.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let response = self.send(Request::new(Method::DELETE, self.url(&format!("manifests/{digest}"))?))?;
        match response.status().as_u16() {
            200..300 => Ok(()),
            405 => Err(response.refusal(Some(DELETING_IS_OFF.to_owned()))),
            _ => Err(self.refused(response)),
        }
    }

    /// Stages a blob.
    pub fn download(&self, wanted: &Wanted, staging: &mut Staging) -> Result<Staged> {
        let crate::http::ContentHash::Sha256(digest) = &wanted.hash else {
            return Err(HubError::content(self.reference, "a blob with a SHA-256 digest", "another hash"));
        };
        let request = self.authorized(Request::get(self.url(&format!("blobs/{digest}"))?))?;
        self.http.download(&request, wanted, staging, &|response| self.hint(response))
    }

    /// Whether the repository has a blob.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        let response = self.send(Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?))?;
        match response.status().as_u16() {
            200..300 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refused(response)),
        }
    }

    /// Uploads a blob; a piece that is lost on its way is sent again from where the registry has got to.
    pub fn upload(&self, path: &Path, digest: &Digest, size: u64, progress: &dyn Progress) -> Result<()> {
        let mut file = File::open(path).at("open", path)?;
        let response = self.expect(Request::new(Method::POST, self.url("blobs/uploads/")?))?;
        let mut place = self.place(&response)?;
        let (mut sent, mut patience) = (0, Patience::default());
        while size > CHUNK && sent < size {
            let piece = piece(&mut file, path, sent, size)?;
            let end = sent + piece.len() as u64;
            let request = self.octets(Method::PATCH, place.clone(), piece)?;
            let request = request.header(CONTENT_RANGE, &format!("{sent}-{}", end - 1))?;
            match self.http.send_once(&self.authorized(request)?) {
                Ok(response) if response.status().is_success() => {
                    place = self.place(&response)?;
                    progress.advance(end - sent);
                    (sent, patience) = (end, Patience::default());
                }
                Ok(response) if !matches!(response.status().as_u16(), 408 | 416 | 429 | 500..) => {
                    return Err(self.refused(response));
                }
                other => {
                    let failure = match other {
                        Ok(response) => self.refused(response),
                        Err(error @ HubError::Network { .. }) => error,
                        Err(error) => return Err(error),
                    };
                    self.http.pause(&mut patience, (failure, None))?;
                    (place, sent) = self.progress_of(place, sent, size)?;
                }
            }
        }
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let rest = if sent < size { piece(&mut file, path, sent, size)? } else { Vec::new() };
        let rest_len = rest.len() as u64;
        self.expect(self.octets(Method::PUT, place, rest)?)?;
        progress.advance(rest_len);
        Ok(())
    }

    /// Gives the manifest its tag.
    pub fn put_manifest(&self, media_type: &str, bytes: Vec<u8>) -> Result<()> {
        let url = self.url(&format!("manifests/{}", self.reference.version))?;
        self.expect(Request::new(Method::PUT, url).header(CONTENT_TYPE, media_type)?.body(bytes))?;
        Ok(())
    }

    /// Where an upload goes on: its address and the bytes that the registry has, of `sent` that it may have.
    fn progress_of(&self, place: Url, sent: u64, size: u64) -> Result<(Url, u64)> {
        let response = self.expect(Request::get(place))?;
        let end = response.header("range").and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
        // `0-0` stands for nothing as well as for one byte; sending a byte again is refused, so nothing it is.
        let has = end.map_or(sent, |end| if end == 0 { 0 } else { end + 1 });
        Ok((self.place(&response)?, has.min(size)))
    }

    fn octets(&self, method: Method, url: Url, body: Vec<u8>) -> Result<Request> {
        Ok(Request::new(method, url).header(CONTENT_TYPE, "application/octet-stream")?.body(body))
    }

    /// The address that an answer names for the next step.
    fn place(&self, response: &Response) -> Result<Url> {
        let place = response.header("location").and_then(|place| response.url().join(place).ok());
        place
            .filter(|place| matches!(place.scheme(), "http" | "https"))
            .ok_or_else(|| HubError::content(origin(response.url()), "the address of an upload", "none"))
    }

    fn expect(&self, request: Request) -> Result<Response<'a>> {
        let response = self.send(request)?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response)) }
    }

    /// Sends a request with what authorizes it; where the registry asks for something else, that is got first.
    fn send(&self, request: Request) -> Result<Response<'a>> {
        let response = self.http.send(&self.authorized(request.clone())?)?;
        if response.status().as_u16() != 401 || request.url.origin() != self.base.origin() {
            return Ok(response);
        }
        let challenge = response.header("www-authenticate").and_then(Challenge::parse);
        let authorization = match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(credentials)) => Some(credentials.basic()),
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                Some(format!("Bearer {}", self.token(&realm, service, scope)?))
            }
            _ => None,
        };
        if authorization.is_none() || *self.authorization.borrow() == authorization {
            return Ok(response);
        }
        self.authorization.replace(authorization);
        self.http.send(&self.authorized(request)?)
    }

    /// Adds what the registry accepted, if the request is for the registry.
    fn authorized(&self, request: Request) -> Result<Request> {
        match &*self.authorization.borrow() {
            Some(authorization) if request.url.origin() == self.base.origin() => {
                request.header(AUTHORIZATION, authorization)
            }
            _ => Ok(request),
        }
    }

    /// A token of the server that the registry names (distribution specification, "Token Authentication").
    fn token(&self, realm: &str, service: Option<String>, scope: Option<String>) -> Result<String> {
        let mut url = parse_url(realm)?;
        // Credentials may go there.
        if url.scheme() != "https" && !is_loopback(url.host_str().unwrap_or_default()) {
            return Err(HubError::content(self.reference, "a token server with https", origin(&url)));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull,push", self.reference.repository));
        url.query_pairs_mut().extend_pairs(service.map(|service| ("service", service))).append_pair("scope", &scope);
        let mut request = Request::get(url.clone());
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, &credentials.basic())?;
        }
        let response = self.http.expect(&request, &|response| self.hint(response))?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&response.bytes(LARGEST)?).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        token.ok_or_else(|| HubError::content(origin(&url), "a token", "none"))
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|error| HubError::content(self.reference, "a path of the registry", error))
    }

    fn refused(&self, response: Response) -> HubError {
        let hint = self.hint(&response);
        response.refusal(hint)
    }

    fn hint(&self, response: &Response) -> Option<String> {
        let host = &self.reference.host;
        Some(match (response.status().as_u16(), &self.credentials) {
            (401 | 403, None) => format!(
                "log in first: `docker login {host}`, or set EDGELING_REGISTRY_USER and EDGELING_REGISTRY_PASSWORD"
            ),
            (401 | 403, Some(_)) => format!("the credentials for {host} give no right to do this"),
            (404, _) => "check the name and its tag".to_owned(),
            _ => return None,
        })
    }
}

/// The next bytes to send.
fn piece(file: &mut File, path: &Path, from: u64, size: u64) -> Result<Vec<u8>> {
    let mut piece = Vec::new();
    file.seek(SeekFrom::Start(from)).at("read", path)?;
    file.take((size - from).min(CHUNK)).read_to_end(&mut piece).at("read", path)?;
    if piece.is_empty() && from < size {
        return Err(HubError::store(path, format!("{size} bytes"), format!("{from}")));
    }
    Ok(piece)
}
