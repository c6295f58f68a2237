//! Conversions of metadata values.

use super::value::{Array, Value};

/// A type that metadata values convert to where nothing is lost.
pub trait FromValue<'a>: Sized {
    /// What a value must be, for messages.
    fn expected() -> String;

    /// `None` where the value is something else.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

/// Integers of any width and sign, as long as the number fits.
macro_rules! integers {
    ($($t:ty)*) => {$(
        impl FromValue<'_> for $t {
            fn expected() -> String {
                concat!("an integer that fits ", stringify!($t)).to_owned()
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Integer { value, .. } => value.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 usize i32 i64);

/// Any float or integer; rounded to the nearest where it has more digits.
macro_rules! floats {
    ($($t:ty)*) => {$(
        impl FromValue<'_> for $t {
            fn expected() -> String {
                "a number".to_owned()
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Float { value, .. } => Some(value as $t),
                    Value::Integer { value, .. } => Some(value as $t),
                    _ => None,
                }
            }
        }
    )*};
}

floats!(f32 f64);

impl FromValue<'_> for bool {
    fn expected() -> String {
        "a bool".to_owned()
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    fn expected() -> String {
        "a string in UTF-8".to_owned()
    }

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::String(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    fn expected() -> String {
        "an array".to_owned()
    }

    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }
}

/// Arrays of one type. Strings are borrowed: `Vec<&str>` of a vocabulary is one allocation.
impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn expected() -> String {
        format!("an array, each element {}", T::expected())
    }

    fn from_value(value: Value<'a>) -> Option<Self> {
        Array::from_value(value)?.values().map(T::from_value).collect()
    }
}
