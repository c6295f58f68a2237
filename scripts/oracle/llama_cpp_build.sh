#!/usr/bin/env bash
# Build llama.cpp's own tools from the source inside PyPI's llama-cpp-python, which names the commit.
# usage: llama_cpp_build.sh FOLDER      -> FOLDER/build/bin/llama-{quantize,perplexity,bench,completion}
# Needs python3 with pip, gcc and make.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
version=0.3.36
[ -d "$folder/venv" ] || python3 -m venv "$folder/venv"
export PATH="$folder/venv/bin:$PATH"
pip install --quiet cmake scikit-build-core
pip download --quiet --no-deps --no-binary llama-cpp-python -d "$folder" "llama-cpp-python==$version"
tar xzf "$folder/llama_cpp_python-$version.tar.gz" -C "$folder"
source="$folder/llama_cpp_python-$version/vendor/llama.cpp"
# Unix Makefiles: ninja never finds the build file up to date, since the archive lacks the git index that it depends on.
cmake -S "$source" -B "$folder/build" -G "Unix Makefiles" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DBUILD_SHARED_LIBS=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
cmake --build "$folder/build" -j "$(nproc)" --target llama-quantize llama-perplexity llama-bench llama-completion
