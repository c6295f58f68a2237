//! The client that the network transports share: requests with redirects, retries and bounds, and downloads that resume.
//!
//! Credentials go to the server that they are for and to no other: a redirect to another scheme, host or port loses
//! them. Nothing goes from https to plain http.

mod download;
mod retry;
mod tls;
mod wire;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use crate::{HubError, Progress, Result};
pub use download::{ContentHash, Wanted};
pub use retry::Patience;
use wire::{Broken, Wire};

/// Redirects that one request may take.
const MOST_REDIRECTS: usize = 10;

/// A server that sends nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(30);

/// An upload of one chunk may take so long.
const UPLOAD: Duration = Duration::from_secs(600);

/// Bytes of an error's text that are read, and characters of it that are shown.
const ERROR_TEXT: (usize, usize) = (16 << 10, 300);

pub struct Http<'a> {
    wire: Wire,
    progress: &'a dyn Progress,
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Vec::new() }
    }

    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Adds a header.
    ///
    /// # Errors
    /// A value with characters that a header cannot hold.
    pub fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let mut header = HeaderValue::from_str(value).map_err(|_| {
            HubError::content(origin(&self.url), format!("a value for the header `{name}`"), "control characters")
        })?;
        header.set_sensitive(name == AUTHORIZATION);
        self.headers.insert(name, header);
        Ok(self)
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

/// An answer, whatever its status.
pub struct Response<'a> {
    http: &'a Http<'a>,
    inner: reqwest::Response,
    /// Headers of the redirects on the way, the first hop first.
    hops: Vec<HeaderMap>,
}

impl<'a> Http<'a> {
    /// # Errors
    /// The client cannot be set up.
    pub fn new(progress: &'a dyn Progress) -> Result<Self> {
        Ok(Self { wire: Wire::new()?, progress })
    }

    /// Sends a request until it is answered with something else than a passing failure; GET and HEAD follow redirects.
    ///
    /// # Errors
    /// No answer, or passing failures only. An answer of status 4xx is no error here.
    pub fn send(&'a self, request: &Request) -> Result<Response<'a>> {
        let mut patience = Patience::default();
        loop {
            let failure = match self.follow(request) {
                Ok(response) => match retry::passing(&response) {
                    None => return Ok(response),
                    Some(asked) => (response.refusal(None), asked),
                },
                Err(error @ HubError::Network { .. }) => (error, None),
                Err(error) => return Err(error),
            };
            self.pause(&mut patience, failure)?;
        }
    }

    /// Sends a request once, for those that must not be repeated blindly.
    ///
    /// # Errors
    /// No answer.
    pub fn send_once(&'a self, request: &Request) -> Result<Response<'a>> {
        self.follow(request)
    }

    /// As [`Self::send`]; an answer that is no success is an error.
    ///
    /// # Errors
    /// As [`Self::send`], or a refusal, with the hint of `hint` for its status.
    pub fn expect(&'a self, request: &Request, hint: &dyn Fn(&Response) -> Option<String>) -> Result<Response<'a>> {
        let response = self.send(request)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let hint = hint(&response);
        Err(response.refusal(hint))
    }

    /// Waits before another attempt, or gives up with the failure. `asked` is the wait that the server wants.
    pub fn pause(&self, patience: &mut Patience, (failure, asked): (HubError, Option<Duration>)) -> Result<()> {
        let Some(delay) = patience.next(&failure, asked) else { return Err(failure) };
        match self.wire.sleep(delay, self.progress) {
            Ok(()) => Ok(()),
            Err(_) => Err(HubError::Stopped),
        }
    }

    fn follow(&'a self, request: &Request) -> Result<Response<'a>> {
        let (mut url, mut headers, mut hops) = (request.url.clone(), request.headers.clone(), Vec::new());
        loop {
            let inner = self.once(request, &url, &headers)?;
            let redirects = matches!(request.method, Method::GET | Method::HEAD)
                && matches!(inner.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(to) = inner.headers().get(LOCATION).filter(|_| redirects) else {
                return Ok(Response { http: self, inner, hops });
            };
            let next = to.to_str().ok().and_then(|to| url.join(to).ok());
            let Some(next) = next.filter(|next| allowed(&url, next)) else {
                let found = format!("a redirect to `{}`", String::from_utf8_lossy(to.as_bytes()));
                return Err(HubError::content(origin(&url), "a redirect to a web address no less safe", found));
            };
            if hops.len() == MOST_REDIRECTS {
                return Err(HubError::content(
                    origin(&request.url),
                    format!("at most {MOST_REDIRECTS} redirects"),
                    "more",
                ));
            }
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            hops.push(inner.headers().clone());
            url = next;
        }
    }

    /// One request, one answer.
    fn once(&self, request: &Request, url: &Url, headers: &HeaderMap) -> Result<reqwest::Response> {
        let mut sent = self.wire.client().request(request.method.clone(), url.clone()).headers(headers.clone());
        if !request.body.is_empty() || matches!(request.method, Method::POST | Method::PUT | Method::PATCH) {
            sent = sent.body(request.body.clone());
        }
        let limit = if request.body.is_empty() { SILENCE } else { UPLOAD };
        self.wire.wait(limit, self.progress, sent.send()).map_err(|broken| broken.at(url))
    }
}

impl Response<'_> {
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// A header of the last answer, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// A header of any answer on the way here, the first first.
    pub fn header_on_the_way(&self, name: &str) -> Option<&str> {
        let hops = self.hops.iter().chain([self.inner.headers()]);
        hops.filter_map(|headers| headers.get(name)?.to_str().ok()).next()
    }

    /// Where the answer came from.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The next bytes of the body; `None` at its end.
    fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>> {
        let Self { http, inner, .. } = self;
        let url = inner.url().clone();
        http.wire.wait(SILENCE, http.progress, inner.chunk()).map_err(|broken| broken.at(&url))
    }

    /// The whole body, of at most `most` bytes.
    ///
    /// # Errors
    /// A longer body, or one that breaks off.
    pub fn bytes(mut self, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk()? {
            bytes.extend_from_slice(chunk.as_ref());
            if bytes.len() > most {
                return Err(HubError::content(origin(self.url()), format!("at most {most} bytes"), "more"));
            }
        }
        Ok(bytes)
    }

    /// The error that this answer is, with what the server says about it.
    pub fn refusal(self, hint: Option<String>) -> HubError {
        let (url, status) = (origin(self.url()), self.status());
        let said = self.header_on_the_way("x-error-message").map(str::to_owned);
        let said = said.or_else(|| message(&self.bytes(ERROR_TEXT.0).ok()?));
        let said = said.map(|text| text.chars().filter(|c| !c.is_control()).take(ERROR_TEXT.1).collect());
        let hint = hint.or_else(|| match status.as_u16() {
            429 => Some("the server limits how often it answers: wait a while".to_owned()),
            500.. => Some("the server has trouble: try again later".to_owned()),
            _ => None,
        });
        HubError::Http { url, status: status.as_u16(), reason: status.canonical_reason(), said, hint }
    }
}

/// The text of an error in JSON: `error` of the Hugging Face API, `errors[].message` of OCI registries.
fn message(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let texts = [&json["errors"][0]["message"], &json["error"], &json["message"]];
    texts.into_iter().find_map(|text| text.as_str()).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Whether a redirect may be followed: to the web, and not from https to plain http.
fn allowed(from: &Url, to: &Url) -> bool {
    matches!((from.scheme(), to.scheme()), (_, "https") | ("http", "http"))
}

/// An address for messages: without what may be a secret (user, query, fragment).
pub fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// Parses an address of the web.
///
/// # Errors
/// Anything else.
pub fn parse_url(text: &str) -> Result<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(HubError::content(text, "an address that begins with http:// or https://", "another text")),
    }
}

impl Broken {
    fn at(self, url: &Url) -> HubError {
        match self {
            Self::Stopped => HubError::Stopped,
            Self::Untrusted { cause, hint } => HubError::Untrusted { url: origin(url), cause, hint },
            Self::Failed { cause, unreachable } => HubError::Network { url: origin(url), cause, unreachable },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_messages_hold_no_secrets() {
        let url = parse_url("https://user:word@host:8443/a/b?signature=x#y").unwrap();
        assert_eq!(origin(&url), "https://host:8443/a/b");
        for text in ["", "host/a", "file:///etc/passwd", "ftp://host/a"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redirects_stay_safe() {
        for (from, to, expected) in [
            ("https://a/", "https://b/", true),
            ("http://a/", "https://a/", true),
            ("http://a/", "http://b/", true),
            ("https://a/", "http://a/", false),
            ("http://a/", "file:///etc/passwd", false),
        ] {
            assert_eq!(allowed(&Url::parse(from).unwrap(), &Url::parse(to).unwrap()), expected, "{from} {to}");
        }
    }

    #[test]
    fn errors_of_both_kinds_of_servers_are_read() {
        assert_eq!(message(br#"{"error":"Repository not found"}"#).unwrap(), "Repository not found");
        assert_eq!(message(br#"{"errors":[{"code":"X","message":"blob unknown"}]}"#).unwrap(), "blob unknown");
        assert_eq!(message(b"<html>"), None);
    }
}
