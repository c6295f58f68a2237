//! What a whole file is quantized to.

use kernels::DType;

/// A type for a file's tensors, or a mix of types around one.
#[derive(Debug)]
pub struct FileType {
    pub name: &'static str,
    /// The value of `general.file_type`.
    pub id: u32,
    /// What tensors get that no rule treats otherwise.
    pub dtype: DType,
    /// Which rules of the mix apply.
    pub(super) mix: Mix,
}

/// The kinds of mixes. M spends more bits than S on the layers and tensors that matter most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    Plain,
    Q4KS,
    Q4KM,
    Q5KM,
}

const fn plain(name: &'static str, id: u32, dtype: DType) -> FileType {
    FileType { name, id, dtype, mix: Mix::Plain }
}

/// Every file type that can be made.
pub static FILE_TYPES: [FileType; 13] = [
    plain("F32", 0, DType::F32),
    plain("F16", 1, DType::F16),
    plain("BF16", 32, DType::BF16),
    plain("Q4_0", 2, DType::Q4_0),
    plain("Q4_1", 3, DType::Q4_1),
    plain("Q5_0", 8, DType::Q5_0),
    plain("Q5_1", 9, DType::Q5_1),
    plain("Q8_0", 7, DType::Q8_0),
    FileType { name: "Q4_K_S", id: 14, dtype: DType::Q4_K, mix: Mix::Q4KS },
    FileType { name: "Q4_K_M", id: 15, dtype: DType::Q4_K, mix: Mix::Q4KM },
    plain("Q5_K_S", 16, DType::Q5_K),
    FileType { name: "Q5_K_M", id: 17, dtype: DType::Q5_K, mix: Mix::Q5KM },
    plain("Q6_K", 18, DType::Q6_K),
];

impl FileType {
    /// The file type with this name, in any case. `Q4_K` and `Q5_K` mean their M mixes.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        let is = |full: &str| name.eq_ignore_ascii_case(full);
        let full = match name {
            _ if is("Q4_K") => "Q4_K_M",
            _ if is("Q5_K") => "Q5_K_M",
            name => name,
        };
        FILE_TYPES.iter().find(|t| t.name.eq_ignore_ascii_case(full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_distinct() {
        for t in &FILE_TYPES {
            assert_eq!(FileType::from_name(&t.name.to_lowercase()).map(|t| t.id), Some(t.id));
            assert_eq!(FILE_TYPES.iter().filter(|o| o.id == t.id || o.name == t.name).count(), 1, "{}", t.name);
        }
        assert_eq!(FileType::from_name("q4_k").map(|t| t.name), Some("Q4_K_M"));
        assert_eq!(FileType::from_name("Q5_K").map(|t| t.name), Some("Q5_K_M"));
        assert!(FileType::from_name("Q2_K").is_none());
    }

    /// Every type that can be encoded can be asked for, by its own name or as a mix around it.
    #[test]
    fn every_type_has_a_file_type() {
        for dtype in DType::all() {
            assert!(FILE_TYPES.iter().any(|t| t.dtype == dtype), "{dtype}");
        }
    }
}
