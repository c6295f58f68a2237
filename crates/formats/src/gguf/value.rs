//! Values of GGUF metadata, borrowed from the file.

use std::fmt;
use std::path::Path;

use super::cursor::Cursor;

/// The type of a metadata value; the discriminant is its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this number in files.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Bytes of a value, or the fewest that a string (its length) or an array (its element type and length) takes.
    pub(super) fn min_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }

    /// Whether all values of the type take the same number of bytes.
    pub(super) fn is_fixed(self) -> bool {
        !matches!(self, Self::String | Self::Array)
    }
}

/// A metadata value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Integer {
        ty: ValueType,
        value: i128,
    },
    Float {
        ty: ValueType,
        value: f64,
    },
    Bool(bool),
    /// UTF-8 by the format's rules, which files break.
    String(&'a [u8]),
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// Decodes a value from exactly its bytes; `None` where their number is wrong.
    pub(super) fn decode(ty: ValueType, bytes: &'a [u8]) -> Option<Self> {
        let integer = |value: i128| Self::Integer { ty, value };
        let float = |value: f64| Self::Float { ty, value };
        Some(match ty {
            ValueType::U8 => integer(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I8 => integer(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::U16 => integer(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I16 => integer(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::U32 => integer(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I32 => integer(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::U64 => integer(u64::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I64 => integer(i64::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::F32 => float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::F64 => float(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => Self::Bool(u8::from_le_bytes(bytes.try_into().ok()?) != 0),
            ValueType::String => Self::String(bytes.get(8..)?),
            ValueType::Array => {
                let (element, rest) = bytes.split_first_chunk()?;
                let (len, bytes) = rest.split_first_chunk()?;
                let element = ValueType::from_id(u32::from_le_bytes(*element))?;
                Self::Array(Array { element, len: u64::from_le_bytes(*len).try_into().ok()?, bytes })
            }
        })
    }
}

/// The type, and what a line can hold of the value: `u32 4`, `string "abc"`, `array of 49152 × string`.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { ty, value } => write!(f, "{} {value}", ty.name()),
            Self::Float { ty, value } => write!(f, "{} {value}", ty.name()),
            Self::Bool(value) => write!(f, "bool {value}"),
            Self::String(bytes) => {
                let shown = &bytes[..bytes.len().min(60)];
                let more = if shown.len() < bytes.len() { "…" } else { "" };
                write!(f, "string {:?}{more}", String::from_utf8_lossy(shown))
            }
            Self::Array(array) => write!(f, "array of {} × {}", array.len, array.element.name()),
        }
    }
}

/// An array of metadata, still encoded: elements are decoded as they are iterated.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    pub fn element_type(&self) -> ValueType {
        self.element
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order, all `len` of them.
    pub fn values(self) -> impl Iterator<Item = Value<'a>> {
        let mut cursor = Cursor::new(self.bytes, Path::new(""));
        (0..self.len).map_while(move |_| {
            let start = cursor.position();
            cursor.skip(self.element, 0).ok()?;
            Value::decode(self.element, &self.bytes[start..cursor.position()])
        })
    }
}
