//! Which tensors of a folder hold those of a source: Hugging Face's and mlx-lm's may pack them otherwise.

use formats::{Checkpoint, Config, TensorInfo};
use model::arch::{Architecture, Assembly, DecoderConfig, HfNames, Piece};

use super::plan::To;

/// What decides over a source's tensors.
pub(super) struct Folder<'a> {
    pub source: &'a Checkpoint,
    pub architecture: &'static Architecture,
    pub config: &'a DecoderConfig,
    pub to: To,
}

/// A tensor of the folder that is put together from rows of the source's, and the first canonical tensor that it holds.
pub(super) struct Target {
    pub canonical: String,
    pub assembly: Assembly,
}

impl Folder<'_> {
    /// The tensors that begin with this one of the source: nothing where others begin those that it is a part of. None where
    /// it is written as it is.
    pub fn targets(&self, info: &TensorInfo) -> Option<Vec<Target>> {
        let to_mlx = self.to == To::Mlx;
        let Config::HuggingFace(_) = self.source.config() else {
            let of_each: Option<Vec<_>> =
                Architecture::held(&info.name).iter().map(|canonical| self.of_file(canonical, info)).collect();
            return Some(of_each?.into_iter().flatten().collect());
        };
        let names = HfNames::of(self.source);
        let plain = names.plain(&info.name)?;
        if !to_mlx && !self.architecture.is_mlx_name(&plain) {
            return None;
        }
        let held = self.architecture.unpacked(self.source, self.config, &plain).or_else(|| {
            let canonical = self.architecture.to_canonical(&plain)?;
            let renamed = self.architecture.mlx_name(&canonical).is_some();
            renamed.then(|| vec![whole(canonical, info)])
        })?;
        Some(held.into_iter().flat_map(|held| self.of_held(held)).collect())
    }

    /// The tensors that begin with this canonical one, which `info` of a GGUF file holds.
    fn of_file(&self, canonical: &str, info: &TensorInfo) -> Option<Vec<Target>> {
        if let Some(name) = self.architecture.mlx_name(canonical).filter(|_| self.to == To::Mlx) {
            let pieces = self.architecture.pieces(self.source, self.config, canonical)?;
            let mut shape = info.shape.clone();
            // Of what is fused, its own rows alone.
            *shape.iter_mut().nth_back(1)? = pieces.first()?.rows.len();
            return Some(vec![self.target(canonical, Assembly { name, shape, pieces })]);
        }
        Some(self.resolved(canonical, self.architecture.packed(self.config, canonical)?))
    }

    /// The tensors that begin with a canonical one, which is put together from the source's.
    fn of_held(&self, held: Assembly) -> Vec<Target> {
        let canonical = held.name.clone();
        let named = |name: String| vec![self.target(&canonical, Assembly { name, ..held.clone() })];
        if let Some(name) = self.architecture.mlx_name(&canonical).filter(|_| self.to == To::Mlx) {
            return named(name);
        }
        match self.packed(&canonical) {
            Some(packed) => self.resolved(&canonical, packed),
            None => named(self.architecture.to_hf(&canonical).unwrap_or_else(|| canonical.clone())),
        }
    }

    fn packed(&self, canonical: &str) -> Option<Vec<Assembly>> {
        let Config::HuggingFace(hf) = self.source.config() else { return None };
        let model_type = hf.model_type().unwrap_or_default();
        self.architecture.packed_for(self.config, model_type, canonical)
    }

    /// Put together from the source's tensors, in place of canonical ones.
    fn resolved(&self, canonical: &str, packed: Vec<Assembly>) -> Vec<Target> {
        let resolved = |assembly: Assembly| {
            let pieces = assembly.pieces.iter().flat_map(|piece| self.resolve(piece)).collect();
            self.target(canonical, Assembly { pieces, ..assembly })
        };
        packed.into_iter().map(resolved).collect()
    }

    /// Rows of a canonical tensor, as rows of the source's.
    fn resolve(&self, piece: &Piece) -> Vec<Piece> {
        let held = self.architecture.pieces(self.source, self.config, &piece.tensor).unwrap_or_default();
        let mut before = 0;
        let mut found = Vec::new();
        for held in held {
            let (start, end) = (before, before + held.rows.len());
            before = end;
            let rows = piece.rows.start.max(start)..piece.rows.end.min(end);
            if rows.start < rows.end {
                let first = held.rows.start;
                found.push(Piece { rows: first + rows.start - start..first + rows.end - start, ..held });
            }
        }
        found
    }

    fn target(&self, canonical: &str, assembly: Assembly) -> Target {
        Target { canonical: canonical.to_owned(), assembly: Assembly { name: self.nested(&assembly.name), ..assembly } }
    }

    /// The folder's name of a tensor of the language model alone.
    pub fn nested(&self, plain: &str) -> String {
        match (self.source.config(), self.to) {
            (Config::Gguf(_), _) => plain.to_owned(),
            // mlx-lm's classes of models that see hold the language model alone.
            (Config::HuggingFace(hf), To::HuggingFace) if hf.find("text_config").is_none() => plain.to_owned(),
            (_, To::Mlx) => HfNames::of(self.source).of_mlx().nested(plain),
            _ => HfNames::of(self.source).nested(plain),
        }
    }
}

/// All rows of a tensor under another name.
fn whole(name: String, info: &TensorInfo) -> Assembly {
    let rows = info.shape.iter().rev().skip(1).product();
    let piece = Piece { tensor: info.name.clone(), shape: info.shape.clone(), rows: 0..rows };
    Assembly { name, shape: info.shape.clone(), pieces: vec![piece] }
}
