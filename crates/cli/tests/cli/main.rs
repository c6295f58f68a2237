//! The `edgeling` binary as a user meets it: arguments in, two streams, a status and files out.

mod bad_files;
#[cfg(unix)]
mod calibrate;
#[cfg(unix)]
mod chat;
mod compare;
mod convert;
#[path = "../../../hub/tests/common/hub.rs"]
mod fake_hub;
#[cfg(unix)]
mod interrupt;
mod measure;
mod models;
mod quantize;
mod run;
#[path = "../../../hub/tests/common/server.rs"]
mod server;
mod store;
mod streams;
mod support;
mod text;
mod usage;
