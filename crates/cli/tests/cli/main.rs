//! The `edgeling` binary as a user meets it: arguments in, two streams, a status and files out.

mod bad_files;
#[cfg(unix)]
mod chat;
mod convert;
#[cfg(unix)]
mod interrupt;
mod measure;
mod run;
mod store;
mod streams;
mod support;
mod text;
mod usage;
