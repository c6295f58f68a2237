//! Where JSON ends in a growing text.

/// Follows one object or list, byte by byte.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct JsonEnd {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl JsonEnd {
    /// Whether the value ends with this byte. The first byte must be `{` or `[`.
    pub fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        let text = br#"{"a": "}\"]", "b": [{}, []]} x"#;
        let mut end = JsonEnd::default();
        assert_eq!(text.iter().position(|&byte| end.ends_with(byte)), Some(text.len() - 3));
    }
}
