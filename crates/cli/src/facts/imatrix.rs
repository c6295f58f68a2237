//! What an importance matrix says of itself.

use formats::imatrix::{Form, Imatrix};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct ImatrixFacts {
    pub form: &'static str,
    pub tensors: usize,
    /// Texts that it was made from.
    pub datasets: Vec<String>,
    /// Pieces of text.
    pub chunks: u32,
    pub chunk_size: Option<u32>,
    /// Experts of all mixtures, and those that were given no token.
    pub experts: usize,
    pub unseen_experts: usize,
}

impl ImatrixFacts {
    pub fn of(imatrix: &Imatrix) -> Self {
        let counts = || imatrix.entries().map(|(_, entry)| entry.counts()).filter(|counts| counts.len() > 1).flatten();
        Self {
            form: match imatrix.form {
                Form::Gguf => "GGUF",
                Form::Legacy => "the form before GGUF",
            },
            tensors: imatrix.len(),
            datasets: imatrix.datasets.clone(),
            chunks: imatrix.chunks,
            chunk_size: imatrix.chunk_size,
            experts: counts().count(),
            unseen_experts: counts().filter(|count| **count <= 0.0).count(),
        }
    }

    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows =
            vec![("kind", format!("importance matrix ({})", self.form)), ("tensors", self.tensors.to_string())];
        if self.experts > 0 {
            rows.push(("experts", format!("{} of {} were given no token", self.unseen_experts, self.experts)));
        }
        if self.chunks > 0 {
            let of = self.chunk_size.map_or_else(String::new, |size| format!(" of {size} tokens"));
            rows.push(("text", format!("{} pieces{of}", self.chunks)));
        }
        if !self.datasets.is_empty() {
            rows.push(("made from", self.datasets.join(", ")));
        }
        rows
    }
}
