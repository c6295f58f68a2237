//! A small HTTP server whose every answer a test decides, byte for byte: it can break off, dawdle and lie.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// First byte of the range that is asked for.
    pub fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server answers.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// Time to wait between pieces of 16 KiB.
    pub dawdle: Option<Duration>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A file, or the part of it that is asked for, as RFC 9110 has it.
    pub fn file(asked: &Asked, bytes: &[u8], etag: &str) -> Self {
        let tagged = |reply: Self| reply.with("ETag", format!("\"{etag}\"")).with("Accept-Ranges", "bytes");
        let same = asked.header("if-range").is_none_or(|tag| tag == format!("\"{etag}\""));
        match asked.range().filter(|_| same) {
            Some(from) if from >= bytes.len() => {
                tagged(Self::new(416)).with("Content-Range", format!("bytes */{}", bytes.len()))
            }
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                tagged(Self::new(206)).with("Content-Range", range).body(&bytes[from..])
            }
            None => tagged(Self::new(200)).body(bytes),
        }
    }
}

/// One request with the bytes of its answer's body that were sent.
#[derive(Clone, Debug)]
pub struct Served {
    pub asked: Asked,
    pub status: u16,
    pub sent: usize,
}

/// Answers on a port of its own, for as long as the test runs.
#[derive(Clone)]
pub struct Server {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    log: Arc<Mutex<Vec<Served>>>,
}

type Handler = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

impl Server {
    pub fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = Self { url, log: log.clone() };
        let handler: Handler = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (handler.clone(), log.clone());
                thread::spawn(move || serve(stream, &handler, &log));
            }
        });
        server
    }

    /// Everything served so far.
    pub fn served(&self) -> Vec<Served> {
        self.log.lock().unwrap().clone()
    }

    /// Forgets what was served.
    pub fn forget(&self) {
        self.log.lock().unwrap().clear();
    }

    /// Bytes of bodies sent for paths that contain `part`.
    pub fn sent(&self, part: &str) -> usize {
        self.served().iter().filter(|served| served.asked.path.contains(part)).map(|served| served.sent).sum()
    }
}

/// One request on one connection. A client may go away at any moment.
fn serve(mut stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Served>>) {
    let Some(asked) = read(&stream) else { return };
    let reply = handler(&asked);
    let mut head = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
    let index = {
        let mut log = log.lock().unwrap();
        log.push(Served { asked: asked.clone(), status: reply.status, sent: 0 });
        log.len() - 1
    };
    let body = if asked.method == "HEAD" { &[] } else { &reply.body[..reply.cut.unwrap_or(reply.body.len())] };
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    for piece in body.chunks(16 << 10) {
        if stream.write_all(piece).is_err() {
            return;
        }
        if let Some(served) = log.lock().unwrap().get_mut(index) {
            served.sent += piece.len();
        }
        if let Some(time) = reply.dawdle {
            thread::sleep(time);
        }
    }
    let _ = stream.flush();
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut asked = Asked { method, path, headers, body: Vec::new() };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}
