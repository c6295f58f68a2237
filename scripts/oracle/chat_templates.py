#!/usr/bin/env python3
"""Renders conversations with Jinja2, set up as transformers does for chat templates.

    pip install jinja2 gguf
    chat_templates.py [--digests] CASES.json OUT.json NAME=TEMPLATE...
    chat_templates.py --digests CASES.json OUT.json FOLDER

TEMPLATE is a .jinja file, a tokenizer_config.json or a .gguf; a FOLDER stands for all .jinja files in it. OUT holds, by NAME,
one item per case: the prompt, or null where rendering fails. Digests are the number of bytes and their CRC-32.
"""

import json
import sys
import zlib
from datetime import datetime, timezone
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}` marks what the assistant wrote; it changes no output."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.If(nodes.Const(True), body, [], []).set_lineno(line)


def compile_template(source, now):
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.fromtimestamp(now, timezone.utc).strftime(format)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(source)


def read_template(path):
    path = Path(path)
    if path.suffix == ".gguf":
        import gguf

        return gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()
    text = path.read_text(encoding="utf-8")
    return json.loads(text)["chat_template"] if path.suffix == ".json" else text


def render(source, case):
    tokens = {key: case[key] for key in ["bos_token", "eos_token"] if key in case}
    try:
        return compile_template(source, case["now"]).render(
            messages=case["messages"],
            tools=case.get("tools"),
            documents=None,
            add_generation_prompt=case["add_generation_prompt"],
            **tokens,
            **case.get("extra", {}),
        )
    except Exception as error:  # Templates fail in many ways, some of them Python's own.
        print(f"{case['name']}: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def digest(text):
    return None if text is None else f"{len(text.encode())}:{zlib.crc32(text.encode()):08x}"


def main(*arguments):
    digests = arguments[0] == "--digests"
    cases_path, out, *templates = arguments[digests:]
    cases = json.loads(Path(cases_path).read_text(encoding="utf-8"))
    if len(templates) == 1 and "=" not in templates[0]:
        templates = [f"{path.stem}={path}" for path in sorted(Path(templates[0]).glob("*.jinja"))]
    results = {}
    for item in templates:
        name, path = item.split("=", 1)
        source = read_template(path)
        results[name] = [render(source, case) for case in cases]
    if digests:
        rows = (f"{json.dumps(name)}: {json.dumps([digest(text) for text in row])}" for name, row in results.items())
        text = "{\n" + ",\n".join(rows) + "\n}\n"
    else:
        text = json.dumps(results, ensure_ascii=False, indent=1) + "\n"
    Path(out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
