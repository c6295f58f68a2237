//! GGUF, versions 2 and 3, little-endian: a header of typed metadata and tensor descriptions, then the tensors' data.
//!
//! Header: magic `GGUF`, u32 version, u64 tensor count, u64 key count; the keys, each a string, a u32 type and a value; the
//! tensors, each a name, a u32 dimension count, u64 dimensions (innermost first), a u32 type and a u64 offset. The data
//! follows at the next multiple of `general.alignment`, and offsets count from there. A string is a u64 length and bytes.

pub(crate) mod cursor;
mod from_value;
mod header;
mod metadata;
mod metadata_builder;
mod shards;
mod to_value;
mod value;
mod writer;

pub use from_value::FromValue;
pub use header::Header;
pub use metadata::Metadata;
pub use metadata_builder::MetadataBuilder;
pub use to_value::ToValue;
pub use value::{Array, Value, ValueType};
pub use writer::{GgufWriter, NewTensor};

pub(crate) use shards::open;

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";
