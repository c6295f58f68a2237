//! Who we are to a registry: credentials, and what its challenge wants them for.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::reference::ImageReference;

/// A user's name and password for one registry.
#[derive(Clone)]
pub struct Credentials(String);

impl Credentials {
    /// Those of `EDGELING_REGISTRY_USER` and `EDGELING_REGISTRY_PASSWORD`, else those that `docker login` has left for
    /// this registry. Helper programs are not asked.
    pub fn find(reference: &ImageReference) -> Option<Self> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        if let (Some(user), Some(password)) =
            (variable("EDGELING_REGISTRY_USER"), variable("EDGELING_REGISTRY_PASSWORD"))
        {
            return Some(Self(format!("{user}:{password}")));
        }
        let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(std::env::home_dir()?.join(".docker")))?;
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()?;
        Self::in_config(&config, &reference.host)
    }

    fn in_config(config: &Value, host: &str) -> Option<Self> {
        let auths = config["auths"].as_object()?;
        let is_host = |key: &str| {
            let key = key.trim_start_matches("https://").trim_start_matches("http://");
            key.split('/').next() == Some(host) || (host == "docker.io" && key == "index.docker.io/v1/")
        };
        let auth = auths.iter().find(|(key, _)| is_host(key)).map(|(_, auth)| auth)?;
        if let (Some(user), Some(password)) = (auth["username"].as_str(), auth["password"].as_str()) {
            return Some(Self(format!("{user}:{password}")));
        }
        let text = String::from_utf8(STANDARD.decode(auth["auth"].as_str()?).ok()?).ok()?;
        text.contains(':').then(|| Self(text.trim_end_matches('\0').to_owned()))
    }

    /// The header that carries them (RFC 7617).
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(&self.0))
    }
}

/// What a registry answers to a request without rights.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// Rights are given by another server.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads `WWW-Authenticate` (RFC 9110, 11.6.1); `None` for a scheme that is neither.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let value =
            |name: &str| parameters(rest).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        scheme.eq_ignore_ascii_case("bearer").then_some(())?;
        Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
    }
}

/// The `name="value"` pairs of a challenge. A comma inside quotes separates nothing.
fn parameters(text: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            (value, rest) = quoted.split_once('"')?;
        } else {
            (value, rest) = after.split_once(',').unwrap_or((after, ""));
        }
        Some((name.trim_start_matches([',', ' ']).trim(), value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://auth.h/token",service="h",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.h/token".to_owned(),
            service: Some("h".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse("basic realm=\"x\""), Some(Challenge::Basic));
        for header in ["", "Negotiate", "Bearer", "Bearer realm=\"unclosed"] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }

    #[test]
    fn credentials_are_for_their_host_only() {
        let config = json!({"auths": {
            "localhost:5000": {"auth": STANDARD.encode("user:pass:word")},
            "https://index.docker.io/v1/": {"username": "u", "password": "p"},
        }});
        let found = |host| Credentials::in_config(&config, host).map(|credentials| credentials.0);
        assert_eq!(found("localhost:5000").unwrap(), "user:pass:word");
        assert_eq!(found("docker.io").unwrap(), "u:p");
        assert_eq!((found("localhost"), found("localhost:50000")), (None, None));
        assert_eq!(Credentials("Aladdin:open sesame".to_owned()).basic(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
