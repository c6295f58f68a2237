//! Files whose content is known by its hash, fetched in as many pieces as the network makes of them.
//!
//! What has arrived stays on disk (see [`Partial`]) when the connection or the process ends, and the next attempt asks
//! for the rest. A file counts as whole only when its hash is right.

use reqwest::header::{ACCEPT_ENCODING, ETAG, IF_RANGE, RANGE};
use sha1::Digest as _;

use super::{Http, Request, Response, origin};
use crate::http::retry::Patience;
use crate::store::{Content, Digest, Hasher, Partial, Staged, Staging};
use crate::{HubError, Result};

/// Times that one download may start over because the server has other bytes than before.
const MOST_RESTARTS: u32 = 2;

/// How the content of a file is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentHash {
    Sha256(Digest),
    /// The SHA-1 that git gives a blob, 40 hexadecimal digits: over `blob SIZE NUL` and the content.
    Git(String),
}

/// A file to be fetched.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What to call it, for messages.
    pub name: String,
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
}

impl ContentHash {
    /// The name that a partial file of this content has.
    fn key(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.hex().to_owned(),
            Self::Git(sha1) => format!("git-{sha1}"),
        }
    }

    fn matches(&self, etag: &str) -> bool {
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        match self {
            Self::Sha256(digest) => etag.eq_ignore_ascii_case(digest.hex()),
            Self::Git(sha1) => etag.eq_ignore_ascii_case(sha1),
        }
    }
}

impl<'a> Http<'a> {
    /// Stages a file. Its bytes come from the store, where that has them; from what an earlier attempt left; and from
    /// `request`.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or has other content. [`HubError::Changed`] where the server itself says
    /// that it has another file now.
    pub fn download(
        &'a self,
        request: &Request,
        wanted: &Wanted,
        staging: &mut Staging,
        hint: &dyn Fn(&Response) -> Option<String>,
    ) -> Result<Staged> {
        let known = match &wanted.hash {
            ContentHash::Sha256(digest) => Some(digest),
            ContentHash::Git(_) => None,
        };
        self.progress.start(&format!("downloading {}", wanted.name), Some(wanted.size));
        let staged = match staging.content(&wanted.hash.key(), known, wanted.size, self.progress)? {
            Content::Whole(staged) => staged,
            Content::Partial(partial) => {
                let mut download = Download { http: self, request, wanted, partial, sums: Sums::new(wanted), hint };
                let digest = download.run()?;
                staging.keep(download.partial, digest)?
            }
        };
        self.progress.finish();
        Ok(staged)
    }
}

/// A file on its way.
struct Download<'a> {
    http: &'a Http<'a>,
    request: &'a Request,
    wanted: &'a Wanted,
    partial: Partial,
    /// Of the bytes in `partial`.
    sums: Sums,
    hint: &'a dyn Fn(&Response) -> Option<String>,
}

impl Download<'_> {
    /// Gives the digest of the content, which is the wanted one.
    fn run(&mut self) -> Result<Digest> {
        let (mut restarts, mut patience) = (0, Patience::default());
        if self.partial.received() > self.wanted.size {
            self.partial.restart()?;
        }
        let mut resumed = self.partial.received() > 0;
        let sums = &mut self.sums;
        self.partial.read(&mut |bytes| sums.update(bytes))?;
        self.http.progress.advance(self.partial.received());
        loop {
            let before = self.partial.received();
            let failure = if before == self.wanted.size {
                match std::mem::replace(&mut self.sums, Sums::new(self.wanted)).check(self.wanted) {
                    Ok(digest) => return Ok(digest),
                    Err(error) => {
                        self.partial.restart()?;
                        // Bytes that an earlier process left may have been torn by a power cut.
                        if !std::mem::take(&mut resumed) {
                            return Err(error);
                        }
                        continue;
                    }
                }
            } else {
                match self.attempt() {
                    Ok(Step::Received) => continue,
                    Ok(Step::StartOver) => {
                        restarts += 1;
                        self.restart()?;
                        if restarts > MOST_RESTARTS {
                            let found = "other bytes at every attempt";
                            return Err(HubError::content(origin(&self.request.url), "one file to download", found));
                        }
                        continue;
                    }
                    Err(error @ HubError::Network { .. }) => error,
                    Err(error) => return Err(error),
                }
            };
            if self.partial.received() > before {
                patience = Patience::default();
            }
            self.http.pause(&mut patience, (failure, None))?;
        }
    }

    fn restart(&mut self) -> Result<()> {
        self.sums = Sums::new(self.wanted);
        self.partial.restart()
    }

    /// Asks for what is missing and appends what comes.
    fn attempt(&mut self) -> Result<Step> {
        let have = self.partial.received();
        let mut request = self.request.clone().header(ACCEPT_ENCODING, "identity")?;
        if have > 0 {
            request = request.header(RANGE, &format!("bytes={have}-"))?;
            // A weak tag does not promise the same bytes (RFC 9110, 13.1.5).
            if let Some(etag) = self.partial.etag().filter(|etag| !etag.starts_with("W/")) {
                request = request.header(IF_RANGE, &etag)?;
            }
        }
        let response = self.http.send(&request)?;
        match response.status().as_u16() {
            416 if have > 0 => return Ok(Step::StartOver),
            200 | 206 => {}
            _ => {
                let hint = (self.hint)(&response);
                return Err(response.refusal(hint));
            }
        }
        self.check_linked(&response)?;
        let etag = response.header(ETAG.as_str()).map(str::to_owned);
        if response.status().as_u16() == 206 {
            let changed = matches!((self.partial.etag(), &etag), (Some(old), Some(new)) if old != *new);
            if changed || range_start(&response) != Some((have, self.wanted.size)) {
                return Ok(Step::StartOver);
            }
        } else if have > 0 {
            // The server sends the whole: it knows no ranges, or the file is another one now.
            self.restart()?;
        }
        self.partial.set_etag(etag.as_deref())?;
        self.receive(response)
    }

    fn receive(&mut self, mut response: Response) -> Result<Step> {
        while let Some(chunk) = response.chunk()? {
            let bytes = chunk.as_ref();
            if self.partial.received() + bytes.len() as u64 > self.wanted.size {
                self.restart()?;
                let expected = format!("a file of {} bytes", self.wanted.size);
                return Err(HubError::content(origin(&self.request.url), expected, "more"));
            }
            self.partial.append(bytes)?;
            self.sums.update(bytes);
            self.http.progress.advance(bytes.len() as u64);
            if self.http.progress.stopped() {
                return Err(HubError::Stopped);
            }
        }
        if self.partial.received() < self.wanted.size {
            let cause = format!("the connection ended after {} of {} bytes", self.partial.received(), self.wanted.size);
            return Err(HubError::Network { url: origin(&self.request.url), cause, unreachable: false });
        }
        Ok(Step::Received)
    }

    /// The Hugging Face Hub names the content of a large file in the redirect to it.
    fn check_linked(&mut self, response: &Response) -> Result<()> {
        match response.header_on_the_way("x-linked-etag") {
            Some(etag) if !self.wanted.hash.matches(etag) => {
                self.restart()?;
                Err(HubError::Changed { url: origin(&self.request.url) })
            }
            _ => Ok(()),
        }
    }
}

enum Step {
    Received,
    StartOver,
}

/// First byte and total size of a partial answer, `bytes FIRST-LAST/TOTAL`.
fn range_start(response: &Response) -> Option<(u64, u64)> {
    let (range, total) = response.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// The hashes of a content that comes piece by piece: the store's, and git's where that is the one to check.
struct Sums {
    sha256: Hasher,
    git: Option<sha1::Sha1>,
}

impl Sums {
    fn new(wanted: &Wanted) -> Self {
        let git = matches!(wanted.hash, ContentHash::Git(_))
            .then(|| sha1::Sha1::new_with_prefix(format!("blob {}\0", wanted.size)));
        Self { sha256: Hasher::default(), git }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    fn check(self, wanted: &Wanted) -> Result<Digest> {
        let sha256 = self.sha256.finish();
        let (expected, found) = match &wanted.hash {
            ContentHash::Sha256(digest) => (digest.to_string(), sha256.to_string()),
            ContentHash::Git(sha1) => (format!("git blob {sha1}"), format!("git blob {}", hex(self.git))),
        };
        if expected == found {
            return Ok(sha256);
        }
        Err(HubError::Content {
            origin: wanted.name.clone(),
            expected,
            found,
            hint: Some(
                "the bytes were damaged on their way, or the server holds damaged ones; nothing was kept".to_owned(),
            ),
        })
    }
}

fn hex(hasher: Option<sha1::Sha1>) -> String {
    let bytes = hasher.map(|hasher| hasher.finalize());
    bytes.iter().flatten().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_hashes_are_those_of_git() {
        // `printf hello | git hash-object --stdin`
        let hash = ContentHash::Git("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".to_owned());
        let wanted = Wanted { name: "x".to_owned(), hash: hash.clone(), size: 5 };
        let mut sums = Sums::new(&wanted);
        sums.update(b"hel");
        sums.update(b"lo");
        assert_eq!(sums.check(&wanted).unwrap(), Digest::of(b"hello"));
        assert!(hash.matches("\"b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\"") && !hash.matches("\"b6\""));
        assert!(Sums::new(&wanted).check(&wanted).unwrap_err().to_string().contains("expected git blob b6fc"));
    }
}
