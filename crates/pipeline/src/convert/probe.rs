//! A text that tells tokenizers apart.

use model::tokenizer::{EncodeOptions, Tokenizer};

use super::ConvertError;

/// What pre-tokenizers, normalizers and merges treat differently.
const PROBE: &[&str] = &[
    "",
    " ",
    "Hello, world! It's 12345.67 o'clock; WE'LL see, they'Re here.",
    "  leading and   inner spaces, trailing  ",
    "\n \n\n \n\n\n \t \t\t\n  \r\n\r\n x\u{a0}y\u{3000}z",
    "fn main() { let x_1 = vec![0u8; 1 << 20]; } // 100% == 1e-5",
    "naïve café, cafe\u{301}, Größe, ﬁn, İstanbul, ΑΒΓ αβγ, нещо на Български",
    "你好，世界。日本語のテキスト、カタカナ。한국어 문장입니다.",
    "مرحبا بالعالم ١٢٣ नमस्ते दुनिया १२३ สวัสดีชาวโลก កាន់តែពិសេស",
    "🚀🙂 👩‍👩‍👧‍👦 🇫🇷 ✅ 😶‍🌫️ \u{1F9D1}\u{1F3FD}",
    "'''''' ``````\"\"\"\"......!!!!!!?????? ---- ==== ~~~~ ……",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 33333333 3.3..3",
    "▁ Ġ Ċ <s> </s> <unk> <0x0A> [PAD1] <|endoftext|> <|im_start|>user\nhi<|im_end|> <|eot_id|>",
];

/// # Errors
/// The tokenizers give different ids for some text.
pub(super) fn same_tokens(source: &Tokenizer, result: &Tokenizer) -> Result<(), ConvertError> {
    for text in PROBE {
        for parse_special in [false, true] {
            let options = EncodeOptions { add_special: true, parse_special };
            let (expected, found) = (source.encode(text, options), result.encode(text, options));
            if expected != found {
                return Err(ConvertError::Tokens { text: (*text).to_owned(), expected, found });
            }
        }
    }
    Ok(())
}
