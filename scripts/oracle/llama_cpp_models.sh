#!/usr/bin/env bash
# Quantize SmolLM2-135M-Instruct with llama.cpp into the types that the perplexity and greedy references need.
# usage: llama_cpp_models.sh LLAMA_CPP_BIN SmolLM2-135M-Instruct.Q4_1.gguf OUT_FOLDER
# The F16 file holds the dequantized values of the published Q4_1 file; every other file is made from the F16 one.
set -euo pipefail
bin=$1 source=$2 out=$3
mkdir -p "$out"
base="$out/smollm2-135m"
cp "$source" "$base-published-q4_1.gguf"
"$bin/llama-quantize" --allow-requantize "$source" "$base-f16.gguf" F16 2
for type in F32 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K_M Q5_K_M Q6_K; do
    "$bin/llama-quantize" "$base-f16.gguf" "$base-${type,,}.gguf" "$type" 2
done
# Every tensor whose rows are a multiple of 256 in one K type; the others fall back to blocks of 32.
for type in Q4_K_S Q5_K_S Q6_K; do
    "$bin/llama-quantize" --pure "$base-f16.gguf" "$base-pure-${type,,}.gguf" "$type" 2
done
