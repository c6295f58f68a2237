#!/usr/bin/env bash
# Speed of a model in each type beside its peers: one JSON file per type.
# usage: [TYPES='Q4_0 F16'] [REPEAT=5] run.sh MODEL-f16.gguf RESULTS PEER [PEER …]
# A peer is a command line that takes llama-bench's arguments.
set -euo pipefail
source=$1 results=$2
shift 2
against=()
for peer in "$@"; do against+=(--against "$peer"); done
edgeling=${EDGELING:-edgeling}
base=${source%-f16.gguf}
mkdir -p "$results"
for type in ${TYPES:-Q4_0 Q4_1 Q5_1 Q8_0 Q4_K_M Q5_K_S Q6_K F16}; do
    file=$base-${type,,}.gguf
    [[ -e $file ]] || "$edgeling" quantize "$source" "$type" --out "$file" --json >/dev/null
    "$edgeling" bench "$file" "${against[@]}" --repeat "${REPEAT:-5}" --json >"$results/$(basename "${file%.gguf}").json"
    echo "$file"
done
