//! Conversions to metadata values.

use super::value::ValueType;

/// A type that is written as a metadata value.
pub trait ToValue {
    const TYPE: ValueType;

    /// Appends the value's bytes.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($t:ty: $variant:ident),*) => {$(
        impl ToValue for $t {
            const TYPE: ValueType = ValueType::$variant;

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u8: U8, i8: I8, u16: U16, i16: I16, u32: U32, i32: I32, u64: U64, i64: I64, f32: F32, f64: F64);

impl ToValue for bool {
    const TYPE: ValueType = ValueType::Bool;

    fn write(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }
}

impl ToValue for str {
    const TYPE: ValueType = ValueType::String;

    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        out.extend(self.as_bytes());
    }
}

impl ToValue for String {
    const TYPE: ValueType = ValueType::String;

    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

/// Arrays: the type of the elements, their number, and they themselves.
impl<T: ToValue> ToValue for [T] {
    const TYPE: ValueType = ValueType::Array;

    fn write(&self, out: &mut Vec<u8>) {
        (T::TYPE as u32).write(out);
        (self.len() as u64).write(out);
        self.iter().for_each(|element| element.write(out));
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    const TYPE: ValueType = ValueType::Array;

    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    const TYPE: ValueType = T::TYPE;

    fn write(&self, out: &mut Vec<u8>) {
        (*self).write(out);
    }
}
