//! Tokens with a role: begin and end of a text, end of a turn.

use super::vocabulary::{TokenKind, Vocabulary};

/// What models of the known families write at the end of a turn or of a text.
const ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<|eot|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<EOT>",
    "_<EOT>",
    "<eos>",
    "</s>",
    "<turn|>",
    "<|tool_response>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// With both of these, `<|end|>` ends a message, behind which the same turn goes on.
const HARMONY: [&str; 2] = ["<|return|>", "<|call|>"];

/// Those of [`ENDS`] that end a turn, in order of preference.
const TURN_ENDS: &[&str] =
    &["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|end_of_turn|>", "<|eot|>"];

/// The texts of tokens with a role, as a file beside `tokenizer.json` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpecialNames<'a> {
    pub bos: Option<&'a str>,
    pub eos: Option<&'a str>,
    pub eot: Option<&'a str>,
}

/// Roles, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SpecialTokens {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    /// Ascending.
    pub end_of_generation: Vec<u32>,
}

impl SpecialTokens {
    /// Completes what a file names by the well-known tokens among `added`, which are (text, id). Ids outside the
    /// vocabulary are dropped; those that end a generation become control tokens.
    pub fn new<'a>(
        vocabulary: &mut Vocabulary,
        bos: Option<u32>,
        eos: Option<u32>,
        eot: Option<u32>,
        added: impl Iterator<Item = (&'a str, u32)> + Clone,
    ) -> Self {
        let known = |id: &u32| (*id as usize) < vocabulary.len();
        let control = added.filter(|&(_, id)| vocabulary.kind(id) == Some(TokenKind::Control));
        let is_harmony = HARMONY.iter().all(|text| control.clone().any(|(other, _)| other == *text));
        let control = control.filter(move |&(text, _)| !(is_harmony && text == "<|end|>"));
        let (bos, eos) = (bos.filter(known), eos.filter(known));
        let find_turn_end = || TURN_ENDS.iter().find_map(|end| control.clone().find(|(text, _)| text == end));
        let eot = eot.filter(known).or_else(|| find_turn_end().map(|(_, id)| id));
        let mut end_of_generation: Vec<u32> =
            control.clone().filter(|(text, _)| ENDS.contains(text)).map(|(_, id)| id).chain(eos).chain(eot).collect();
        end_of_generation.sort_unstable();
        end_of_generation.dedup();
        for &id in &end_of_generation {
            vocabulary.set_kind(id, TokenKind::Control);
        }
        Self { bos, eos, eot, end_of_generation }
    }
}
