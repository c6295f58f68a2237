#!/usr/bin/env python3
"""Makes what the tokenizer tests compare with, by the Python libraries `tokenizers` and `sentencepiece`.

    pip install tokenizers sentencepiece gguf
    tokenizer_ids.py classes OUT.rs                    character classes, as the library's patterns see them
    tokenizer_ids.py corpus OUT.jsonl                  lines of mixed text, one JSON string each
    tokenizer_ids.py pre CORPUS.jsonl OUT.json         digests of how each pre-tokenizer cuts the lines
    tokenizer_ids.py small CORPUS.jsonl OUT_DIR        small vocabularies of each kind, trained on the corpus, with ids
    tokenizer_ids.py ids CORPUS.jsonl VOCABULARY OUT   what the library makes of each line

VOCABULARY is a tokenizer.json, a tekken.json (with `pip install mistral-common`), or a .gguf with a byte-level vocabulary of
a known pre-tokenizer, with BERT's, or with SentencePiece's unigrams.
"""

import argparse
import json
import random
import tempfile
import zlib
from pathlib import Path


def code_points():
    return [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


# ---------------------------------------------------------------- classes


def classes(out):
    """Ranges (first, last, class) of the characters that the library's engine puts into each class."""
    from tokenizers import Regex, pre_tokenizers

    # The order is that of the bits in `Class`.
    patterns = [r"\p{L}", r"\p{N}", r"\s", r"\p{M}", r"\p{P}", r"[\p{Lu}\p{Lt}]", r"\p{Ll}"]
    rows = []
    for bit, pattern in enumerate(patterns):
        split = pre_tokenizers.Split(Regex(pattern), "removed")
        members = []
        codes = code_points()
        for start in range(0, len(codes), 4096):
            block = codes[start : start + 4096]
            kept = "".join(piece for piece, _ in split.pre_tokenize_str("".join(map(chr, block))))
            kept = set(map(ord, kept))
            members += [code for code in block if code not in kept]
        first = last = None
        for code in members + [None]:
            if last is not None and code == last + 1:
                last = code
                continue
            if first is not None:
                rows.append((first, last, bit))
            first = last = code
    body = ", ".join(f"({first:#x}, {last:#x}, {bit})" for first, last, bit in rows)
    Path(out).write_text(
        "//! Characters by class: (first, last, number of the class's bit). Made by `scripts/oracle/tokenizer_ids.py classes`.\n\n"
        f"#[rustfmt::skip]\npub(super) static RANGES: [(u32, u32, u8); {len(rows)}] = [\n{wrap(body)}\n];\n"
    )


def wrap(body, width=116):
    lines, line = [], ""
    for item in body.split(", ("):
        item = item if item.startswith("(") else "(" + item
        if len(line) + len(item) + 2 > width:
            lines.append("    " + line.rstrip())
            line = ""
        line += item + ", "
    return "\n".join(lines + ["    " + line.rstrip()])


# ---------------------------------------------------------------- corpus

WORDS = """the of and to a in is it you that he was for on are with as I his they be at one have this from or had by hot
but some what there we can out other were all your when up use word how said each she which do their time if will way
about many then them would write like so these her long make thing see him two has look more day could go come did my
sound no most number who over know water than call first people may down side been now find any new work part take get
place made live where after back little only round man year came show every good me give our under name very through
just form much great think say help low line before turn cause same mean differ move right boy old too does tell
sentence set three want air well also play small end put home read hand port large spell add even land here must big
high such follow act why ask men change went light kind off need house picture try us again animal point mother world
near build self earth father tokenization counterrevolutionaries electroencephalograph naïve café Zürich façade
Edinburgh Mississippi iPhone GitHub HTTP/2 x86_64 co-operate 3rd e.g. U.S.A. O'Brien rock'n'roll""".split()

ENDINGS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'LL", "\u2019s", "'\u017f"]

PHRASES = {
    "chinese": ["今天天气很好", "我们去公园散步吧", "模型的大小是一百三十五兆", "北京、上海和广州", "「引号」与《书名》", "人工智能正在改变世界", "２０２６年１１月", "繁體中文也要測試", "龘靐齉爩", "你好，世界！"],
    "japanese": ["今日はとても暑いです", "カタカナとひらがな", "東京タワーに登りました", "ﾊﾝｶｸｶﾅ", "りんごを３個ください。", "がぎぐげご", "コンピュータの記憶装置", "〜ーー〜", "株式会社㈱", "そうですか？！"],
    "korean": ["오늘 날씨가 좋네요", "한국어 문장을 나눕니다", "서울특별시", "값이 얼마예요?", "ㅋㅋㅋㅋ", "안녕하세요, 세계!"],
    "arabic": ["مرحبا بالعالم", "اللغة العربية جميلة", "كَتَبَ الطَّالِبُ الدَّرْسَ", "١٢٣٤٥", "هل تتكلم العربية؟", "السلام عليكم", "نـــعـــم"],
    "hebrew": ["שלום עולם", "בְּרֵאשִׁית", "מה שלומך?", "תל־אביב"],
    "hindi": ["नमस्ते दुनिया", "मैं हिन्दी सीख रहा हूँ", "क्षत्रिय और ज्ञान", "१२३ रुपये", "आपका नाम क्या है?", "विद्यार्थी"],
    "thai": ["สวัสดีชาวโลก", "วันนี้อากาศดีมาก", "ประเทศไทย", "๑๒๓๔", "ไม่เป็นไร", "กรุงเทพมหานคร"],
    "russian": ["Привет, мир!", "Сегодня хорошая погода", "ёлка и ёжик", "Москва — столица", "съешь ещё булок"],
    "greek": ["Καλημέρα κόσμε", "ἐν ἀρχῇ ἦν ὁ λόγος", "ΣΊΣΥΦΟΣ σίσυφος"],
    "vietnamese": ["Tiếng Việt có dấu", "Hôm nay trời đẹp quá", "Nguyễn Huệ", "đường phố"],
    "others": ["ქართული ენა", "Հայերեն լեզու", "አማርኛ ቋንቋ", "ភាសាខ្មែរ", "မြန်မာဘာသာ", "বাংলা ভাষা", "தமிழ் மொழி", "తెలుగు భాష", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𐤀𐤁𐤂", "𠀀𠀁𠀂", "ǅ ǈ ʰ ªº", "Ⅷ ½ ² ₃ ⑤ 𝟘𝟙"],
}

EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇯🇵", "👨🏿‍🚀", "❤️", "☺", "1️⃣", "🧑🏻‍❤️‍🧑🏿", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🙂‍↔️", "🫠", "\u200d", "\ufe0f", "🏽", "©️", "⏳"]

SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2003", "\u2009", "\u200b", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\ufeff", "\u1680", "\u202f", "\u205f", "        ", " \n", "\n ", "\t \n\t"]

CONTROLS = [chr(code) for code in list(range(0, 9)) + list(range(14, 32)) + [127, 0x80, 0x90, 0x9F, 0xAD, 0x200E, 0x202E, 0x2066, 0xFFF9, 0xFFFD, 0xFFFE, 0xE000, 0xE0001, 0x10FFFF]]

MARKS = ["e\u0301", "A\u030a", "n\u0303", "o\u0302\u0323", "\u1112\u1161\u11ab", "か\u3099", "q\u0307\u0323", "\u0301", "u\u0308\u0304", "\u212b", "\u2126", "ﬁ", "ﬀ", "\u0958", "क\u093c", "\u0344", "ا\u0653", "i\u0307", "\u1e9b\u0323", "z\u0351\u036b\u0343\u036a"]

SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>", "<mask>", "[multimodal]", "<unused0>", "<table>", "<repo_name>", "<file_sep>", "<|im_start", "|im_end|>", "<<|im_end|>>", "<0x41>", "<0xE2>", "\u2581", "\u2581\u2581", "<extra>", "word", "<left>", "<right>"]

CODE = [
    "def f(x: int) -> int:\n    return x ** 2  # square\n",
    "fn main() {\n\tlet v: Vec<u8> = (0..=255).collect();\n\tprintln!(\"{:?}\", v);\n}\n",
    "#include <stdio.h>\r\nint main(void)\r\n{\r\n\treturn 0;\r\n}\r\n",
    "for (let i=0;i<10;i++){console.log(`i=${i}`);}",
    "SELECT name, COUNT(*) FROM users WHERE id >= 100 GROUP BY name;",
    "{\"key\": [1, 2.5e-10, null, true], \"nested\": {\"a\": \"\\u00e9\"}}",
    "<div class=\"a b\"><p>Hi &amp; bye</p></div>",
    "if [ -f \"$HOME/.bashrc\" ]; then . ~/.bashrc; fi",
    "x = [[0]*n for _ in range(m)]\n\n\n\nprint(x[::-1])",
    "\\frac{1}{2}\\sum_{i=0}^{\\infty} x_i^2",
    "0xDEADBEEF 0b1010 1_000_000 3.14159265358979 1e-9 1,234,567.89",
    "a += b; c -= d; e <<= 2; f != g && h || i === j",
    "https://example.org/path?q=1&r=%20#frag user@example.com",
    "if(x){\n        if(y){\n                z();\n        }\n}",
    "/* ---- */ // ==== ## >>>>> <<<<< ++++ ~~~~ ____ ....",
    "$ git commit -m \"it's done\" && git push --force-with-lease",
]


def corpus(out):
    """Lines of mixed text, the same on every run."""
    import unicodedata

    rng = random.Random(20240607)
    pick = rng.choice
    assigned = [chr(code) for code in code_points() if unicodedata.category(chr(code)) not in ("Cn", "Co") and code < 0x30000]

    def sentence():
        words = []
        for _ in range(rng.randint(3, 18)):
            word = pick(WORDS)
            word = pick([word, word, word, word, word.upper(), word.capitalize()])
            if rng.random() < 0.12:
                word += pick(ENDINGS)
            if rng.random() < 0.08:
                word = pick(["(", "\"", "$", "#", "-", "'", "“"]) + word
            if rng.random() < 0.1:
                word += pick([",", ";", ":", " -", "...", "!", "?", ")", "\"", "”", " …"])
            if rng.random() < 0.06:
                word = str(rng.randint(0, 10 ** rng.randint(1, 9)))
            words.append(word)
        return " ".join(words) + pick([".", "?", "!", "", " "])

    def phrase(name):
        parts = [pick(PHRASES[name]) for _ in range(rng.randint(1, 4))]
        return pick(["", " ", "，", "。", ", ", "\n"]).join(parts)

    def mixture(*lists):
        text = ""
        for _ in range(rng.randint(1, 8)):
            text += pick(pick(lists))
            if rng.random() < 0.4:
                text += pick([" ", pick(WORDS), str(rng.randint(0, 9999)), pick(SPACES)])
        return text

    lines = ["", " ", "  ", "a", " a", "a ", "\n", "'", "''", "'s", " 's", "\u2581", "0", "é", "漢", "😀", "\x00", "\ufeff"]
    lines += [sentence() for _ in range(420)]
    lines += [pick(CODE) for _ in range(40)] + ["\n".join(pick(CODE) for _ in range(2)) for _ in range(80)]
    for name in PHRASES:
        lines += [phrase(name) for _ in range(55)]
    lines += [mixture(EMOJI) for _ in range(150)]
    lines += [mixture(SPACES) for _ in range(220)]
    lines += [mixture(CONTROLS, WORDS) for _ in range(120)]
    lines += [mixture(MARKS) for _ in range(160)]
    lines += [mixture(SPECIALS) for _ in range(220)]
    lines += [mixture(SPECIALS, SPACES, EMOJI) for _ in range(80)]
    lines += ["".join(pick(assigned) for _ in range(rng.randint(1, 24))) for _ in range(260)]
    everything = [WORDS, EMOJI, SPACES, CONTROLS, MARKS, SPECIALS, ENDINGS] + list(PHRASES.values())
    lines += [mixture(*everything) for _ in range(340)]
    lines += [
        "a" * 10000,
        "".join(pick("abcdefghijklmnopqrstuvwxyz") for _ in range(10000)),
        "".join(pick(WORDS) for _ in range(2000))[:10000],
        "".join(pick("今天天气很好我们去公园散步吧") for _ in range(1500)),
        "0123456789" * 300,
        " " * 3000,
        "\n" * 1000 + "x",
        "-" * 2000 + "=" * 97,
        "'" * 500,
        "👍🏽" * 200,
        "e\u0301" * 500,
        "\u2581" * 300 + "<0x0A>" * 20,
    ]
    Path(out).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def read_corpus(path):
    # Lines of the file end with "\n" alone; the text itself may hold any other line end.
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


# ---------------------------------------------------------------- small vocabularies


def byte_level_split(name):
    """The pre-tokenizer of a family and whether it composes characters."""
    from tokenizers import Regex, pre_tokenizers

    from pre_tokenizers import PRE_TOKENIZERS

    named = {
        "byte_level": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        "spaces_removed": lambda: pre_tokenizers.WhitespaceSplit(),
        "single_digits": lambda: pre_tokenizers.Digits(individual_digits=True),
    }
    steps = [
        named[step[0]]() if isinstance(step, tuple) else pre_tokenizers.Split(Regex(step), "isolated")
        for step in PRE_TOKENIZERS[name]
    ]
    if ("byte_level",) not in PRE_TOKENIZERS[name]:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(steps)


def pre(corpus_path, out):
    """By name of the cuts, the 32-bit FNV-1a of the pieces of each ten lines; 0xFE ends a piece, 0xFF a line."""
    from pre_tokenizers import PRE_TOKENIZERS

    letters = {letter: byte for byte, letter in enumerate(letters_of_bytes())}
    lines = read_corpus(corpus_path)
    digests = {}
    for name in PRE_TOKENIZERS:
        split = byte_level_split(name)
        digests[name] = ""
        for start in range(0, len(lines), 10):
            value = 0x811C9DC5
            for line in lines[start : start + 10]:
                pieces = [bytes(letters[letter] for letter in piece) for piece, _ in split.pre_tokenize_str(line)]
                for byte in b"".join(piece + b"\xfe" for piece in pieces) + b"\xff":
                    value = ((value ^ byte) * 0x01000193) % 2**32
            digests[name] += f"{value:08x}"
    Path(out).write_text(json.dumps(digests, indent=0) + "\n")


PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


# The small vocabularies are compared on every so many lines.
SMALL_STEP = 3


def small(corpus_path, out_dir):
    """Vocabularies of some hundred tokens: each kind of model, normalizer, pre-tokenizer and decoder once."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    lines = [line for line in read_corpus(corpus_path) if len(line) < 1000]
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)

    def save(tokenizer, name):
        (out_dir / f"{name}.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")))

    for name in ["gpt2", "llama3", "qwen2", "smollm", "default"]:
        tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        tokenizer.pre_tokenizer = byte_level_split(name)
        if name == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.decoder = decoders.ByteLevel()
        # SmolLM2 lacks some bytes; so does this.
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if name == "smollm":
            alphabet = [letter for letter in alphabet if letter not in "ÀÁõö÷øùúûüýþÿĄĆ"]
        trainer = trainers.BpeTrainer(
            vocab_size=700, show_progress=False, initial_alphabet=alphabet, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        )
        kept = lines if name != "smollm" else [line for line in lines if not set(line) & set("\x04\x06")]
        tokenizer.train_from_iterator(kept, trainer)
        tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<left>", normalized=False, lstrip=True)])
        tokenizer.add_tokens([AddedToken("<right>", normalized=False, rstrip=True), AddedToken("word", normalized=False, single_word=True)])
        if name == "default":
            save_gguf(tokenizer, out_dir / "byte_level_default.gguf.json")
        else:
            save(tokenizer, f"byte_level_{name}")

    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, show_progress=False, limit_alphabet=140, special_tokens=["<unk>", "<s>", "</s>"] + byte_tokens
    )
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    learner.train_from_iterator(lines, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    frame = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    for name in ["llama2", "metaspace", "unknown"]:
        model = models.BPE(learned["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=name != "unknown")
        tokenizer = Tokenizer(model)
        if name == "llama2":
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=name == "unknown")
        strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first") if name == "unknown" else decoders.Sequence(strip)
        tokenizer.post_processor = frame
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ["<unk>", "<s>", "</s>"]])
        tokenizer.add_tokens([AddedToken("<extra>", normalized=name == "llama2"), AddedToken("<left>", normalized=False, lstrip=True)])
        save(tokenizer, f"bpe_{name}")

    for name, fallback in [("plain", False), ("bytes", True)]:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=name == "plain")
        trainer = trainers.UnigramTrainer(vocab_size=700, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")
        # Special tokens in the text would come into the vocabulary a second time.
        known = [line for line in lines if "<" not in line and all(ord(letter) < 0x3000 for letter in line)]
        tokenizer.train_from_iterator(known, trainer)
        learned = json.loads(tokenizer.to_str())["model"]
        pieces = [tuple(piece) for piece in learned["vocab"]]
        if fallback:
            pieces += [(token, -30.0) for token in byte_tokens]
        final = Tokenizer(models.Unigram(pieces, 0, fallback))
        final.pre_tokenizer = tokenizer.pre_tokenizer
        final.decoder = decoders.Sequence(strip) if fallback else decoders.Metaspace(prepend_scheme="always")
        final.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
        final.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ["<unk>", "<s>", "</s>"]])
        save(final, f"unigram_{name}")

    some = read_corpus(corpus_path)[::SMALL_STEP]
    for path in out_dir.glob("*_*.json"):
        if not path.name.startswith("sentencepiece"):
            write_ids(some, open_vocabulary(path), out_dir / f"{path.name.split('.')[0]}.ids")
    for kind in ["bpe", "unigram"]:
        with tempfile.TemporaryDirectory() as folder:
            model = save_sentencepiece(lines, kind, out_dir / f"sentencepiece_{kind}.gguf.json", Path(folder))
            write_ids(some, SentencePieceTokenizer(model, kind == "bpe"), out_dir / f"sentencepiece_{kind}.ids")


def save_gguf(tokenizer, path):
    """The metadata that a GGUF file would hold for a byte-level vocabulary with the default pre-tokenizer."""
    state = json.loads(tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    types = {token["id"]: 3 if token["special"] else 4 for token in state["added_tokens"]}
    added_flags = [token["content"] for token in state["added_tokens"] if token["lstrip"] or token["rstrip"] or token["single_word"]]
    tokens = [token for token, _ in tokens if token not in added_flags]
    metadata = {
        "model": "gpt2",
        "pre": "default",
        "tokens": tokens,
        "token_type": [types.get(id, 1) for id in range(len(tokens))],
        "merges": [" ".join(merge) for merge in state["model"]["merges"]],
    }
    path.write_text(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")))


def save_sentencepiece(lines, kind, path, folder):
    """Trains a SentencePiece model, in `folder`, and saves the metadata that a GGUF file would hold for it."""
    import sentencepiece

    # The trainer takes no NUL, and the other scripts shall be outside the vocabulary.
    lines = [line for line in lines if "\0" not in line and all(ord(letter) < 0x600 for letter in line)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / kind), model_type=kind, vocab_size=900,
        character_coverage=0.98, byte_fallback=kind == "bpe", normalization_rule_name="identity",
        remove_extra_whitespaces=kind == "unigram", minloglevel=2, num_threads=1,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{kind}.model"))
    ids = range(processor.get_piece_size())
    type_of = lambda id: (
        2 if processor.is_unknown(id) else 3 if processor.is_control(id) else 6 if processor.is_byte(id) else 5 if processor.is_unused(id) else 1
    )
    metadata = {
        "model": "llama" if kind == "bpe" else "t5",
        "tokens": [processor.id_to_piece(id) for id in ids],
        "token_type": [type_of(id) for id in ids],
        "scores": [processor.get_score(id) for id in ids],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "remove_extra_whitespaces": kind == "unigram",
    }
    path.write_text(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")))
    return folder / f"{kind}.model"


# ---------------------------------------------------------------- ids


class LibraryTokenizer:
    """A tokenizer.json, or a byte-level vocabulary of a GGUF file, in the `tokenizers` library."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        self.is_unigram = "Unigram" in type(tokenizer.model).__name__

    def encode(self, text, special):
        self.tokenizer.encode_special_tokens = not special
        # A unigram model finds control tokens in plain text all the same, and byte tokens in any; we do not follow.
        forbidden = ["<0x"] + ([] if special else self.special)
        if self.is_unigram and any(token in text for token in forbidden):
            return None
        return self.tokenizer.encode(text).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


class SentencePieceTokenizer:
    """A SentencePiece model; it knows no special tokens in text."""

    def __init__(self, path, is_bpe):
        import sentencepiece

        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.is_bpe = is_bpe
        self.longest = None
        self.frame = (is_bpe, not is_bpe)

    def encode(self, text, special):
        # At the ends of a text a written mark goes with the spaces, which we do not follow. Among equal cuts of one
        # character's repetition, the rounding of float32 sums decides.
        if special or (not self.is_bpe and ("\u2581" in text or (len(text) > 400 and len(set(text)) == 1))):
            return None
        # In large vocabularies the rounding of float32 sums decides in long words, too.
        if self.longest is not None and max(map(len, text.split(" "))) > self.longest:
            return None
        return self.processor.encode(text, add_bos=self.frame[0], add_eos=self.frame[1])

    def decode(self, ids):
        return None if any(map(self.processor.is_unknown, ids)) else self.processor.decode(ids)


class BertTokenizer(LibraryTokenizer):
    """BERT's words from the keys of a GGUF file, in the `tokenizers` library."""

    def __init__(self, tokens, types):
        from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

        # Files write the begin of a word where the library writes that it goes on.
        special = [token for token, kind in zip(tokens, types) if kind == 3]
        plain = lambda token: token if token in special else token[1:] if token.startswith("\u2581") else "##" + token
        vocab = {plain(token): id for id, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        frame = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
        super().__init__(tokenizer)

    def encode(self, text, special):
        import unicodedata
        from tokenizers import normalizers, pre_tokenizers

        # The library's tables of marks and punctuation for this tokenizer are those of an older Unicode.
        for letter in set(text):
            kind = unicodedata.category(letter)
            if kind == "Mn" and normalizers.StripAccents().normalize_str(letter):
                return None
            if kind[0] == "P" and len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(f"a{letter}a")) == 1:
                return None
        return super().encode(text, special)

    def decode(self, ids):
        return None


def from_gguf_unigram(fields):
    """The vocabulary of a GGUF file as a SentencePiece model."""
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    value = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
    for piece, score, kind in zip(value("tokens"), value("scores"), value("token_type")):
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = 1
    model.normalizer_spec.precompiled_charsmap = bytes(byte % 256 for byte in value("precompiled_charsmap"))
    model.normalizer_spec.add_dummy_prefix = value("add_space_prefix")
    model.normalizer_spec.remove_extra_whitespaces = value("remove_extra_whitespaces")
    model.trainer_spec.unk_id, model.trainer_spec.bos_id = value("unknown_token_id"), value("bos_token_id")
    model.trainer_spec.eos_id = value("eos_token_id")
    processor = SentencePieceProcessor(model_proto=model.SerializeToString())
    tokenizer = SentencePieceTokenizer.__new__(SentencePieceTokenizer)
    tokenizer.processor, tokenizer.is_bpe, tokenizer.frame = processor, False, (value("add_bos_token"), value("add_eos_token"))
    tokenizer.longest = 5000
    return tokenizer


def from_gguf_metadata(metadata):
    from tokenizers import AddedToken, Tokenizer, decoders, models

    vocab = {token: id for id, token in enumerate(metadata["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = byte_level_split(metadata["pre"])
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(metadata["tokens"], metadata["token_type"]):
        if kind == 3:
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == 4:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
    return LibraryTokenizer(tokenizer)


class TekkenTokenizer(LibraryTokenizer):
    """A tekken.json, in the `tokenizers` library; plain text also in Mistral's own."""

    def __init__(self, path):
        import base64

        from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

        self.mistral = Tekkenizer.from_file(path)
        special = [token["token_str"] for token in self.mistral._all_special_tokens]
        file = json.loads(Path(path).read_text())
        count = file["config"]["default_vocab_size"] - len(special)
        tokens = [base64.b64decode(token["token_bytes"]) for token in file["vocab"][:count]]
        ranks = {token: rank for rank, token in enumerate(tokens)}
        letters = letters_of_bytes()
        written = ["".join(letters[byte] for byte in token) for token in tokens]
        merges = []
        for token in tokens:
            halves = [(token[:at], token[at:]) for at in range(1, len(token))]
            pairs = sorted((ranks[left], ranks[right]) for left, right in halves if left in ranks and right in ranks)
            merges += [(written[left], written[right]) for left, right in pairs]
        vocab = {token: id for id, token in enumerate(special + written)}
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(file["config"]["pattern"]), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
        super().__init__(tokenizer)

    def encode(self, text, special):
        ids = super().encode(text, special)
        assert special or ids == self.mistral.encode(text, bos=True, eos=False)
        return ids


def letters_of_bytes():
    """The byte alphabet of GPT-2, by byte."""
    letters, others = [], 0
    for byte in range(256):
        letters.append(chr(byte) if byte in PRINTABLE else chr(256 + others))
        others += byte not in PRINTABLE
    return letters


def open_vocabulary(path):
    from tokenizers import Tokenizer

    path = Path(path)
    if path.name.startswith("tekken"):
        return TekkenTokenizer(path)
    if path.suffix == ".gguf":
        import gguf

        fields = gguf.GGUFReader(path).fields
        model = fields["tokenizer.ggml.model"].contents()
        if model == "bert":
            return BertTokenizer(*(fields[f"tokenizer.ggml.{key}"].contents() for key in ["tokens", "token_type"]))
        if model == "t5":
            return from_gguf_unigram(fields)
        keys = ["pre", "tokens", "token_type", "merges"]
        return from_gguf_metadata({key: fields[f"tokenizer.ggml.{key}"].contents() for key in keys})
    if path.name.endswith(".gguf.json"):
        return from_gguf_metadata(json.loads(path.read_text()))
    return LibraryTokenizer(Tokenizer.from_str(path.read_text(encoding="utf-8")))


def fingerprint(ids):
    """The number of ids and the CRC-32 of their little-endian u32s."""
    if ids is None:
        return "-"
    crc = zlib.crc32(b"".join(id.to_bytes(4, "little") for id in ids))
    return f"{len(ids)}:{crc:08x}"


def ids(corpus_path, vocabulary, out):
    """Per line: ids with control tokens read (`-` where the library cannot), ids with them as text (`=` the same, `-`
    where the library cannot), and the text of these ids without special tokens (`=` the line, `-`
    unknown, else its CRC-32)."""
    write_ids(read_corpus(corpus_path), open_vocabulary(vocabulary), out)


def write_ids(lines, tokenizer, out):
    rows = []
    for line in lines:
        special, plain = tokenizer.encode(line, True), tokenizer.encode(line, False)
        text = None if plain is None else tokenizer.decode(plain)
        columns = [
            fingerprint(special),
            "=" if special == plain else fingerprint(plain),
            "-" if text is None else "=" if text == line else f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}",
        ]
        rows.append(" ".join(columns))
    Path(out).write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"classes": classes, "corpus": corpus, "pre": pre, "small": small, "ids": ids}
    parser.add_argument("command", choices=commands)
    parser.add_argument("arguments", nargs="+")
    arguments = parser.parse_args()
    commands[arguments.command](*arguments.arguments)
