//! Pushing to and pulling from a real registry, Debian's `docker-registry`, with basic authentication; and pulling from a
//! server that hands out tokens and speaks as Ollama's does.

#[path = "common/child.rs"]
mod child_process;
mod common;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use child_process::Home;
use common::weights;
use hub::{Digest, StoreName};
use serde_json::json;
use server::{Asked, Reply, Server};

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    child_process::main();
}

/// A `docker-registry` on a port of its own, for user `user` with password `word`.
struct Registry {
    process: Child,
    /// `127.0.0.1:PORT`
    host: String,
    folder: tempfile::TempDir,
}

/// `htpasswd -nbB user word`
const PASSWORDS: &str = "user:$2y$05$RJiNI24CeyZDD9nkj.pR0uV2uS77oR4wX9ey8SH/AM7/HHA32IQh2\n";

impl Registry {
    fn start() -> Self {
        Self::start_with("true")
    }

    /// `delete`, whether it deletes: `true` or `false`.
    fn start_with(delete: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("passwords"), PASSWORDS).unwrap();
        let config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "test", "path": path("passwords")}},
        });
        // JSON is YAML.
        fs::write(path("config.yml"), config.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .args([Path::new("serve"), &path("config.yml")])
            .env("REGISTRY_STORAGE_DELETE_ENABLED", delete)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the tests need Debian's package docker-registry");
        // It says where it listens: `listening on 127.0.0.1:PORT`.
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let host = lines
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split(['"', ' ', ',']).next().unwrap().to_owned())
            })
            .expect("the registry starts");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host, folder }
    }

    fn reference(&self) -> String {
        format!("oci:{}/models/tiny:v1", self.host)
    }

    /// The variables of a user who may push.
    fn user() -> [(&'static str, &'static str); 2] {
        [("EDGELING_REGISTRY_USER", "user"), ("EDGELING_REGISTRY_PASSWORD", "word")]
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A home with a model `tiny:q8_0` of these weights.
fn home_with(bytes: &[u8]) -> Home {
    let home = Home::new(&[]);
    let file = home.folder.path().join("tiny-Q8_0.gguf");
    fs::write(&file, bytes).unwrap();
    assert!(home.pull(&format!("file:{}", file.display())).starts_with("tiny:q8_0"));
    home
}

fn push(home: &Home, name: &str, reference: &str, more: &[(&str, &str)]) -> String {
    let environment = [&[("HUB_PUSH", name)], more].concat();
    home.pull_with(reference, &environment)
}

fn delete(home: &Home, reference: &str, user: &[(&str, &str)]) -> String {
    home.pull_with(reference, &[&[("HUB_DELETE", "1")], user].concat())
}

fn bytes_of(home: &Home, name: &str) -> Vec<u8> {
    fs::read(home.store().resolve(&StoreName::parse(name).unwrap()).unwrap().path).unwrap()
}

#[test]
fn a_model_goes_to_a_registry_and_comes_back_as_it_was() {
    let registry = Registry::start();
    // Larger than one piece of an upload.
    let bytes = weights(1, 20 << 20);
    let home = home_with(&bytes);
    let entry = home.store().list().unwrap().remove(0);
    let pushed = push(&home, "tiny:q8_0", &registry.reference(), &Registry::user());
    assert!(pushed.starts_with(&format!("{} uploaded=", entry.digest)) && !pushed.ends_with("=0"), "{pushed}");
    let again = push(&home, "tiny:q8_0", &registry.reference(), &Registry::user());
    assert_eq!(again, format!("{} uploaded=0", entry.digest));

    // As `docker login` writes it.
    let other = Home::new(&[("DOCKER_CONFIG", registry.folder.path().to_str().unwrap())]);
    let login = json!({"auths": {&registry.host: {"auth": "dXNlcjp3b3Jk"}}});
    fs::write(registry.folder.path().join("config.json"), login.to_string()).unwrap();
    let pulled = other.pull(&registry.reference());
    assert_eq!(pulled, format!("tiny:v1 {} present=false", Digest::of(&bytes)));
    assert!(bytes_of(&other, "tiny:v1") == bytes);
    assert_eq!(other.store().list().unwrap()[0].digest, entry.digest);
    assert_eq!(other.files("tmp").len(), 0);

    // By digest, which is the same for ever.
    let pinned = format!("oci:{}/models/tiny@{}", registry.host, entry.digest);
    assert!(other.pull(&pinned).ends_with("present=false"));
    assert!(other.pull_with(&pinned, &[("DOCKER_CONFIG", "/none")]).ends_with("present=true"));
}

#[test]
fn without_rights_a_registry_is_neither_read_nor_written() {
    let registry = Registry::start();
    let home = home_with(&weights(1, 1000));
    let nobody = ("DOCKER_CONFIG", "/none");
    let wrong = [nobody, ("EDGELING_REGISTRY_USER", "user"), ("EDGELING_REGISTRY_PASSWORD", "wrong")];
    for (environment, hint) in [(&[nobody][..], "hint: log in first: `docker login "), (&wrong, "give no right")] {
        for error in [
            push(&home, "tiny:q8_0", &registry.reference(), environment),
            home.pull_with(&registry.reference(), environment),
        ] {
            assert!(error.contains("401 Unauthorized") && error.contains(hint), "{error}");
        }
    }
    let error = home.pull_with(&registry.reference(), &Registry::user());
    assert!(error.contains("404 Not Found") && error.contains("hint: check the name and its tag"), "{error}");
    for (name, target, words) in [
        ("tiny:q8_0", "hf:a/b", "expected a place to push to"),
        ("tiny:q8_0", "oci:nowhere", "expected host/repository[:tag]"),
        ("nothing", "oci:h/a:b", "no model `nothing`"),
    ] {
        let error = push(&home, name, target, &[]);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_model_is_deleted_from_a_registry() {
    let registry = Registry::start();
    let home = home_with(&weights(1, 1000));
    let digest = home.store().list().unwrap().remove(0).digest;
    let (first, second) = (registry.reference(), format!("oci:{}/models/tiny:v2", registry.host));
    let other = format!("oci:{}/models/tiny:other", registry.host);
    for reference in [&first, &second] {
        push(&home, "tiny:q8_0", reference, &Registry::user());
    }
    let another = home_with(&weights(2, 1000));
    push(&another, "tiny:q8_0", &other, &Registry::user());

    let error = delete(&home, &first, &[("DOCKER_CONFIG", "/none")]);
    assert!(error.contains("401 Unauthorized") && error.contains("hint: log in first"), "{error}");
    let pinned = format!("oci:{}/models/tiny@{digest}", registry.host);
    let error = delete(&home, &first, &Registry::user());
    assert!(error.contains("expected a manifest that no other tag has, found the same one under v2"), "{error}");
    assert!(error.ends_with(&format!("hint: `edgeling rm {pinned}` removes it with all its tags")), "{error}");

    // By digest with both tags, and by a tag that stands alone.
    assert_eq!(delete(&home, &pinned, &Registry::user()), format!("{pinned} {digest}"));
    for gone in [&first, &second, &pinned] {
        let error = delete(&home, gone, &Registry::user());
        assert!(error.contains("404 Not Found") && error.contains("hint: check the name and its tag"), "{error}");
    }
    assert!(Home::new(&Registry::user()).pull(&first).contains("404 Not Found"));
    assert!(Home::new(&Registry::user()).pull(&other).ends_with("present=false"));
    assert!(delete(&home, &other, &Registry::user()).starts_with(&other));
    assert!(Home::new(&Registry::user()).pull(&other).contains("404 Not Found"));

    // The model in the store is still there, and can go back.
    assert!(push(&home, "tiny:q8_0", &first, &Registry::user()).starts_with(&digest.to_string()));
    assert!(Home::new(&Registry::user()).pull(&first).ends_with("present=false"));
}

#[test]
fn a_registry_that_does_not_delete_says_which_setting_would() {
    let registry = Registry::start_with("false");
    let home = home_with(&weights(1, 1000));
    push(&home, "tiny:q8_0", &registry.reference(), &Registry::user());
    let error = delete(&home, &registry.reference(), &Registry::user());
    assert!(error.contains("405 Method Not Allowed"), "{error}");
    assert!(error.contains("hint: deleting is disabled") && error.contains("DELETE_ENABLED=true"), "{error}");
    assert!(Home::new(&Registry::user()).pull(&registry.reference()).ends_with("present=false"));
    let error = delete(&home, "hf:a/b", &[]);
    assert!(error.contains("expected a model in a registry"), "{error}");
}

/// A registry of one model `library/m:1b`, laid out as Ollama does, that gives rights by tokens.
fn ollama(weights: Vec<u8>, cut: Option<usize>) -> Server {
    let blob = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": Digest::of(bytes), "size": bytes.len()});
    let config = br#"{"model_format":"gguf","model_family":"llama"}"#.to_vec();
    let parts = [("model", weights), ("template", b"{{ .Prompt }}".to_vec()), ("license", b"MIT".to_vec())];
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": Digest::of(&config), "size": config.len()},
        "layers": parts.iter().map(|(kind, bytes)| blob(kind, bytes)).collect::<Vec<_>>(),
    });
    let blobs: Vec<Vec<u8>> = parts.into_iter().map(|(_, bytes)| bytes).chain([config]).collect();
    Server::start(move |asked: &Asked| {
        let host = asked.header("host").unwrap();
        if asked.path.starts_with("/token?service=test&scope=repository%3Alibrary%2Fm%3Apull") {
            return Reply::new(200).body("{\"token\": \"right\"}");
        }
        if asked.header("authorization") != Some("Bearer right") {
            let challenge =
                format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:library/m:pull\"");
            return Reply::new(401).with("WWW-Authenticate", challenge);
        }
        if asked.path == "/v2/library/m/manifests/1b" {
            return Reply::new(200)
                .with("Content-Type", manifest["mediaType"].as_str().unwrap())
                .body(manifest.to_string());
        }
        let found = blobs.iter().find(|bytes| asked.path.ends_with(&Digest::of(bytes).to_string()));
        let reply = found.map_or(Reply::new(404), |bytes| Reply::file(asked, bytes, "tag"));
        let cut = cut.map(|cut| cut.min(reply.body.len()));
        Reply { cut, ..reply }
    })
}

#[test]
fn ollama_models_keep_their_layers_and_resume() {
    let bytes = weights(3, 300_000);
    let server = ollama(bytes.clone(), Some(100_000));
    let home = Home::new(&[("DOCKER_CONFIG", "/none")]);
    let reference = format!("ollama:{}/library/m:1b", server.url.strip_prefix("http://").unwrap());
    assert_eq!(home.pull(&reference), format!("m:1b {} present=false", Digest::of(&bytes)));
    assert!(bytes_of(&home, "m:1b") == bytes);
    let model = home.store().show(&StoreName::parse("m:1b").unwrap()).unwrap();
    let names: Vec<_> = model.layers.iter().map(|layer| layer.file_name.as_deref()).collect();
    assert_eq!(names, [None, Some("template"), Some("LICENSE")]);
    assert_eq!(model.config["model_family"], "llama");
    assert_eq!(server.sent(&Digest::of(&bytes).to_string()), 300_000);
}

#[test]
fn what_a_registry_lies_about_is_not_kept() {
    let home = Home::new(&[("DOCKER_CONFIG", "/none")]);
    let manifest = |layers: serde_json::Value| {
        let config = json!({"mediaType": "x", "digest": Digest::of(b"{}"), "size": 2});
        json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string()
    };
    let weight = |digest: Digest, size: u64, name: &str| {
        json!([{"mediaType": "application/vnd.cncf.model.weight.v1.raw", "digest": digest, "size": size,
            "annotations": {"org.cncf.model.filepath": name}}])
    };
    let other = Digest::of(b"other");
    for (manifest, words) in [
        ("{".to_owned(), "expected an OCI image manifest"),
        (manifest(json!([])), "expected a model with layers of raw weights"),
        (manifest(json!([{"mediaType": "x/y", "digest": other, "size": 1}])), "found layers of type x/y"),
        (manifest(weight(other.clone(), 4, "m.gguf")), "m.gguf: expected sha256:"),
        (manifest(weight(Digest::of(b"GGUF"), 3, "m.gguf")), "expected a file of 3 bytes, found more"),
        (manifest(weight(Digest::of(b"GGUF"), 5, "m.gguf")), "the connection ended after 4 of 5 bytes"),
    ] {
        let server = Server::start(move |asked| {
            let kind = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");
            match &asked.path {
                path if path.contains("manifests") => Reply::new(200).with(kind.0, kind.1).body(manifest.clone()),
                path if path.ends_with(Digest::of(b"{}").hex()) => Reply::new(200).body("{}"),
                _ => Reply::new(200).body("GGUF"),
            }
        });
        let error = home.pull(&format!("oci:{}/a:b", server.url.strip_prefix("http://").unwrap()));
        assert!(error.contains(words), "no {words:?} in {error}");
        assert!(home.store().list().unwrap().is_empty() && home.files("blobs").is_empty());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A registry that takes uploads, forgets half of the second piece, and says that it has trouble.
#[test]
fn an_upload_goes_on_where_the_registry_has_got_to() {
    let bytes = weights(5, 20 << 20);
    let home = home_with(&bytes);
    let state = Arc::new(Mutex::new((Vec::<u8>::new(), 0)));
    let seen = state.clone();
    let server = Server::start(move |asked| {
        let mut state = seen.lock().unwrap();
        let (received, pieces) = &mut *state;
        let place = |reply: Reply, length: usize| {
            reply.with("Location", "/v2/a/blobs/uploads/1?state=x").with("Range", format!("0-{}", length.max(1) - 1))
        };
        match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => place(Reply::new(202), 0),
            "PATCH" => {
                *pieces += 1;
                assert_eq!(
                    asked.header("content-range").unwrap().split('-').next().unwrap(),
                    received.len().to_string()
                );
                let kept = if *pieces == 2 { asked.body.len() / 2 } else { asked.body.len() };
                received.extend(&asked.body[..kept]);
                place(Reply::new(if *pieces == 2 { 503 } else { 202 }), received.len())
            }
            "GET" => place(Reply::new(204), received.len()),
            _ => Reply::new(201),
        }
    });
    let reference = format!("oci:{}/a:b", server.url.strip_prefix("http://").unwrap());
    let pushed = push(&home, "tiny:q8_0", &reference, &[("DOCKER_CONFIG", "/none")]);
    assert!(pushed.contains(" uploaded="), "{pushed}");
    let (received, pieces) = &*state.lock().unwrap();
    assert!(received == &bytes && *pieces == 3, "{pieces}");
}

#[test]
fn a_pull_from_a_registry_goes_on_from_what_an_earlier_one_received() {
    let registry = Registry::start();
    let bytes = weights(6, 1 << 20);
    let home = home_with(&bytes);
    push(&home, "tiny:q8_0", &registry.reference(), &Registry::user());
    let other = Home::new(&Registry::user());
    // Half of the bytes, and in the second round half with a wrong byte among them, as a power cut may leave.
    for wrong in [None, Some(9)] {
        let partial = other.path().join("store/tmp").join(format!("partial-{}", Digest::of(&bytes).hex()));
        fs::create_dir_all(&partial).unwrap();
        let mut half = bytes[..bytes.len() / 2].to_vec();
        if let Some(at) = wrong {
            half[at] ^= 1;
        }
        fs::write(partial.join("data"), half).unwrap();
        assert!(other.pull(&registry.reference()).ends_with("present=false"));
        assert!(bytes_of(&other, "tiny:v1") == bytes);
        other.store().remove(&StoreName::parse("tiny:v1").unwrap()).unwrap();
        assert_eq!((other.files("tmp").len(), other.files("blobs").len()), (0, 0));
    }
}
