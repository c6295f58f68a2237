#!/usr/bin/env bash
# Everything that CI checks: format, lints, banned dependencies, tests, instruction counts. Needs Rust, gcc, python3 with
# pip, npm, docker-registry, strace, valgrind and objdump.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step rustfmt
cargo fmt --all --check

step clippy
cargo clippy --profile checks --workspace --all-targets -- -D warnings

step "banned dependencies"
banned=$(sed -n 's/^ *{ *crate *= *"\([^"]*\)".*/\1/p' deny.toml)
tree=$(cargo tree --workspace --edges normal,build --prefix none --format '{p}' | cut -d' ' -f1 | sort -u)
if found=$(grep -xF "$banned" <<<"$tree"); then
    echo "deny.toml bans: $found" >&2
    exit 1
fi

step tests
cargo test --profile checks --workspace

if [[ $(uname -m) == x86_64 ]]; then
    step "instruction counts"
    scripts/instructions.py
fi
