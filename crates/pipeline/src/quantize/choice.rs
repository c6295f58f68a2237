//! Which type each tensor gets: the reference's rules.
//!
//! A mix spends more bits where they matter most: on the output matrix, on V, and on the second matrix of the
//! feed-forward part, in the first and last eighth of the layers and every third between. Tensors are counted in file
//! order, and the counts stand for layers.

use kernels::DType;
use regex::Regex;

use super::error::QuantizeError;
use super::facts::ModelFacts;
use super::file_type::{FileType, Mix};
use super::tensors::{Category, TensorFacts, layer};

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct TypeOptions {
    pub file_type: &'static FileType,
    /// One type for all tensors, no mix.
    pub pure: bool,
    /// The type of the output matrix; of the embeddings too, where they are that matrix and the file type is a quantized
    /// one.
    pub output: Option<DType>,
    /// The type of the token embeddings.
    pub embedding: Option<DType>,
    /// Types of tensors whose names match, the first match first. They count only where the file type is a quantized one.
    pub tensors: Vec<(Regex, DType)>,
    /// Whether there is an importance matrix, which some mixes spend their bits otherwise with. [`quantize`] knows by itself.
    ///
    /// [`quantize`]: super::quantize
    pub imatrix: bool,
}

impl TypeOptions {
    /// The file type and nothing else.
    pub fn new(file_type: &'static FileType) -> Self {
        Self { file_type, pure: false, output: None, embedding: None, tensors: Vec::new(), imatrix: false }
    }

    /// Adds a type for the tensors whose names match: `PATTERN=TYPE`, such as `blk\.0\.ffn_down=Q8_0`. A pattern may match
    /// any part of a name.
    ///
    /// # Errors
    /// There is no `=`, the pattern is not a regular expression, or no type has that name.
    pub fn add_tensor_type(&mut self, text: &str) -> Result<(), QuantizeError> {
        let wrong = |found: String| QuantizeError::TensorType { text: text.to_owned(), found };
        let (pattern, name) = text.rsplit_once('=').ok_or_else(|| wrong("no =".to_owned()))?;
        let pattern = Regex::new(pattern).map_err(|error| wrong(error.to_string()))?;
        let dtype = DType::from_name(name).filter(|dtype| dtype.ggml_id.is_some()).ok_or_else(|| {
            let types: Vec<_> = DType::in_gguf().map(|t| t.name).collect();
            wrong(format!("the type {name:?}, which is none of {}", types.join(", ")))
        })?;
        self.tensors.push((pattern, dtype));
        Ok(())
    }
}

/// The type of each tensor. `tensors` are all tensors of the model in [`file_order`](super::file_order).
///
/// # Errors
/// A type does not fit a tensor's rows, or a mixture of experts has tensors with odd names.
pub fn choose_types(
    model: &ModelFacts,
    tensors: &[TensorFacts],
    options: &TypeOptions,
) -> Result<Vec<DType>, QuantizeError> {
    let categories: Vec<_> = tensors.iter().map(|t| Category::of(t.name)).collect();
    let mut rules = Rules {
        model,
        options,
        tied: !categories.contains(&Category::Output),
        v_count: categories.iter().filter(|c| **c == Category::AttentionV).count(),
        v_seen: 0,
        up_seen: 0,
        gate_seen: 0,
        down_seen: 0,
    };
    tensors.iter().zip(categories).map(|(tensor, category)| rules.choose(tensor, category)).collect()
}

/// Whether a tensor's type gives sense only with an importance matrix, by the reference's rule.
pub(super) fn needs_imatrix(tensor: &TensorFacts, dtype: DType, file_type: &FileType) -> bool {
    let outer = matches!(Category::of(tensor.name), Category::Embedding | Category::Output);
    let few_bits = FEW_BITS.contains(&dtype) || dtype == DType::Q2_K && file_type.mix == Mix::Q2KS;
    tensor.may_change() && !outer && few_bits
}

/// The types of too few bits for values that all count alike.
const FEW_BITS: [DType; 6] = [DType::IQ1_S, DType::IQ1_M, DType::IQ2_XXS, DType::IQ2_XS, DType::IQ2_S, DType::IQ3_XXS];

struct Rules<'a> {
    model: &'a ModelFacts,
    options: &'a TypeOptions,
    /// Whether the embeddings are the output matrix too.
    tied: bool,
    v_count: usize,
    v_seen: usize,
    up_seen: usize,
    gate_seen: usize,
    down_seen: usize,
}

impl Rules<'_> {
    fn choose(&mut self, tensor: &TensorFacts, category: Category) -> Result<DType, QuantizeError> {
        if !tensor.may_change() {
            return Ok(tensor.dtype);
        }
        let default = self.options.file_type.dtype;
        let mut by_name = self.options.tensors.iter().filter(|(pattern, _)| pattern.is_match(tensor.name));
        let by_name = by_name.next().map(|(_, dtype)| *dtype);

        // The table of per-layer embeddings is large, so that its name counts more than its kind.
        let named_table = tensor.name.starts_with("per_layer_") && by_name.is_some();
        let dtype = match (category, self.options.embedding, self.options.output) {
            (Category::Embedding, Some(dtype), _) if !named_table => dtype,
            (Category::Output, _, Some(dtype)) => dtype,
            _ if default.is_float() => default,
            _ => {
                let dtype = match by_name {
                    Some(dtype) => dtype,
                    None if self.options.pure => default,
                    None => self.mixed(tensor, category)?,
                };
                return fitting(dtype, tensor);
            }
        };
        if tensor.cols().is_multiple_of(dtype.block) {
            Ok(dtype)
        } else {
            Err(QuantizeError::Blocks { tensor: tensor.name.to_owned(), dtype, cols: tensor.cols() })
        }
    }

    /// The mix's type, whether it fits the shape or not.
    fn mixed(&mut self, tensor: &TensorFacts, category: Category) -> Result<DType, QuantizeError> {
        let FileType { dtype: default, mix, .. } = *self.options.file_type;
        let eight_experts = self.model.experts == 8;
        let falcon = self.model.architecture == "falcon";
        let imatrix = self.options.imatrix;
        Ok(match category {
            Category::Output => self.output(tensor),
            Category::Embedding if self.tied => self.output(tensor),
            _ if mix == Mix::Experts => {
                let stacked = tensor.shape.iter().rev().nth(2).is_some_and(|&experts| experts > 1);
                if stacked { default } else { DType::Q8_0 }
            }
            Category::Embedding => match mix {
                Mix::Ternary => DType::Q4_K,
                Mix::Iq1 | Mix::Iq2Few => DType::Q2_K,
                Mix::Iq2 | Mix::Iq3Xxs => DType::IQ3_S,
                _ => default,
            },
            _ if mix.is_low() => self.low(category),
            Category::AttentionV => {
                let seen = self.v_seen;
                self.v_seen += 1;
                let few_heads = self.model.queries_per_key() >= 4;
                let dtype = match mix {
                    Mix::Q2K if few_heads => DType::Q4_K,
                    Mix::Q2K => DType::Q3_K,
                    Mix::Q2KS if few_heads => DType::Q4_K,
                    Mix::Q3KM if seen < 2 => DType::Q5_K,
                    Mix::Q3KM => DType::Q4_K,
                    Mix::Q3KL => DType::Q5_K,
                    Mix::Iq3Xxs | Mix::Iq3Xs | Mix::Iq3S if few_heads => DType::Q4_K,
                    Mix::Iq3Xxs if !imatrix => DType::IQ3_S,
                    Mix::Iq3M => DType::Q4_K,
                    Mix::Iq4 if few_heads => DType::Q5_K,
                    Mix::Q4KM | Mix::Q5KM if more_bits(seen, self.v_count) => DType::Q6_K,
                    Mix::Q4KS if seen < 4 => DType::Q5_K,
                    _ => default,
                };
                match dtype {
                    _ if eight_experts => DType::Q8_0,
                    _ if self.model.is_70b() && [DType::Q3_K, DType::Q4_K].contains(&dtype) => DType::Q5_K,
                    _ => dtype,
                }
            }
            Category::AttentionK if eight_experts => DType::Q8_0,
            Category::AttentionK | Category::AttentionQ => match mix {
                Mix::Iq3Xs => DType::IQ3_XXS,
                Mix::Iq3Xxs => DType::IQ2_S,
                _ => default,
            },
            Category::AttentionOutput if falcon => match mix {
                Mix::Q3KL => DType::Q4_K,
                _ => default,
            },
            Category::AttentionOutput if eight_experts => match mix {
                Mix::Q2K | Mix::Q3KS | Mix::Q3KM | Mix::Q4KS | Mix::Q4KM => DType::Q5_K,
                Mix::Iq3Xxs | Mix::Iq3Xs | Mix::Iq3S | Mix::Iq3M | Mix::Iq4 => DType::Q5_K,
                _ => default,
            },
            Category::AttentionOutput => match mix {
                Mix::Q2K => DType::Q3_K,
                Mix::Iq3Xxs => DType::IQ3_S,
                Mix::Q3KM | Mix::Iq3M => DType::Q4_K,
                Mix::Q3KL => DType::Q5_K,
                _ => default,
            },
            Category::FfnDown => {
                let seen = self.down_seen;
                self.down_seen += 1;
                let (layer, layers) = (self.layer_of(tensor.name, seen)?, self.model.layers as usize);
                let (early, more) = (layer < layers / 8, more_bits(layer, layers));
                match mix {
                    Mix::Q2K => DType::Q3_K,
                    Mix::Q2KS if early => DType::Q4_K,
                    Mix::Q3KM if layer < layers / 16 => DType::Q5_K,
                    Mix::Q3KM if !falcon || more => DType::Q4_K,
                    Mix::Q3KL if falcon => DType::Q4_K,
                    Mix::Q3KL => DType::Q5_K,
                    Mix::Iq3Xxs if imatrix => default,
                    Mix::Iq3Xxs if early => DType::Q4_K,
                    Mix::Iq3Xxs => DType::Q3_K,
                    Mix::Iq3M if early || eight_experts && more => DType::Q4_K,
                    Mix::Q4KM if falcon && layer < layers / 16 => DType::Q6_K,
                    Mix::Q4KM if falcon && more => DType::Q5_K,
                    Mix::Q4KM if !falcon && more => DType::Q6_K,
                    Mix::Q5KM if more => DType::Q6_K,
                    Mix::Q4KS if !falcon && early => DType::Q5_K,
                    Mix::Iq4 if early && !imatrix => DType::Q5_K,
                    Mix::Plain if early && imatrix && default == DType::Q4_0 => DType::Q4_1,
                    Mix::Plain if early && imatrix && default == DType::Q5_0 => DType::Q5_1,
                    _ => default,
                }
            }
            Category::FfnGate => {
                let seen = self.gate_seen;
                self.gate_seen += 1;
                self.first_matrix(tensor.name, seen)?
            }
            Category::FfnUp => {
                let seen = self.up_seen;
                self.up_seen += 1;
                self.first_matrix(tensor.name, seen)?
            }
            Category::Other => default,
        })
    }

    /// The type of a tensor in layers, in mixes below three bits.
    fn low(&mut self, category: Category) -> DType {
        let FileType { dtype: default, mix, .. } = *self.options.file_type;
        let experts = self.model.experts;
        let more = if mix == Mix::Iq2 { DType::IQ3_S } else { DType::Q2_K };
        match category {
            Category::AttentionV if self.model.queries_per_key() >= 4 || experts >= 4 => DType::Q4_K,
            Category::AttentionV => more,
            Category::AttentionK if experts == 8 => DType::Q4_K,
            Category::FfnDown => {
                let seen = self.down_seen;
                self.down_seen += 1;
                if seen < self.model.layers as usize / 8 { more } else { default }
            }
            Category::AttentionOutput if experts == 8 => DType::Q5_K,
            Category::AttentionOutput => match mix {
                Mix::Iq1 => DType::IQ2_XXS,
                Mix::Iq2 => DType::IQ3_S,
                _ => default,
            },
            _ => default,
        }
    }

    /// The type of one of a feed-forward part's first matrices, before which there were so many.
    fn first_matrix(&self, name: &str, seen: usize) -> Result<DType, QuantizeError> {
        let FileType { dtype: default, mix, .. } = *self.options.file_type;
        if mix != Mix::Iq3Xs {
            return Ok(default);
        }
        let (layer, layers) = (self.layer_of(name, seen)?, self.model.layers as usize);
        Ok(if (layers / 8..7 * layers / 8).contains(&layer) { DType::IQ3_XXS } else { default })
    }

    /// The type of the output matrix, which may be that of the embeddings too.
    fn output(&self, tensor: &TensorFacts) -> DType {
        let FileType { dtype: default, mix, .. } = *self.options.file_type;
        let falcon = self.model.architecture == "falcon";
        match self.options.output {
            Some(dtype) => dtype,
            None if mix == Mix::Experts || falcon || !tensor.cols().is_multiple_of(default.block) => DType::Q8_0,
            None if mix.is_low() || mix == Mix::Iq3Xxs => DType::Q5_K,
            None if default == DType::Q8_0 => DType::Q8_0,
            None => DType::Q6_K,
        }
    }

    /// The layer of a feed-forward part's matrix: how many of its kind were before it, or what its name says in a mixture,
    /// where a layer has several.
    fn layer_of(&self, name: &str, seen: usize) -> Result<usize, QuantizeError> {
        if self.model.experts <= 1 {
            return Ok(seen);
        }
        let layers = self.model.layers;
        match layer(name) {
            Some(layer) if layer < layers => Ok(layer as usize),
            _ => Err(QuantizeError::Layer { tensor: name.to_owned(), layers }),
        }
    }
}

/// Whether layer `i` of `n` is in the first or last eighth, or one of every third between.
fn more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// The type itself, or the next larger one whose blocks fit the tensor's rows.
fn fitting(dtype: DType, tensor: &TensorFacts) -> Result<DType, QuantizeError> {
    const FALLBACKS: [(DType, DType); 16] = [
        (DType::IQ1_S, DType::IQ4_NL),
        (DType::IQ1_M, DType::IQ4_NL),
        (DType::IQ2_XXS, DType::IQ4_NL),
        (DType::IQ2_XS, DType::IQ4_NL),
        (DType::IQ2_S, DType::IQ4_NL),
        (DType::IQ3_XXS, DType::IQ4_NL),
        (DType::IQ3_S, DType::IQ4_NL),
        (DType::IQ4_XS, DType::IQ4_NL),
        (DType::Q2_0, DType::Q4_0),
        (DType::Q2_K, DType::Q4_0),
        (DType::Q3_K, DType::Q4_0),
        (DType::TQ1_0, DType::Q4_0),
        (DType::TQ2_0, DType::Q4_0),
        (DType::Q4_K, DType::Q5_0),
        (DType::Q5_K, DType::Q5_1),
        (DType::Q6_K, DType::Q8_0),
    ];
    let cols = tensor.cols();
    if cols.is_multiple_of(dtype.block) {
        return Ok(dtype);
    }
    let smaller_blocks = match FALLBACKS.iter().find(|(from, _)| *from == dtype) {
        Some((_, to)) => *to,
        None if dtype.block <= 32 => dtype,
        None => return Err(QuantizeError::Blocks { tensor: tensor.name.to_owned(), dtype, cols }),
    };
    Ok(if cols.is_multiple_of(smaller_blocks.block) { smaller_blocks } else { DType::F16 })
}
