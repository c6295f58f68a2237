#!/usr/bin/env bash
# Speed of a model in each type beside a peer: one JSON file per type.
# usage: run.sh MODEL-f16.gguf LLAMA_BENCH RESULTS [TYPE …]
set -euo pipefail
source=$1 peer=$2 results=$3
shift 3
types=("$@")
((${#types[@]})) || types=(Q4_0 Q4_1 Q5_1 Q8_0 Q4_K_M Q5_K_S Q6_K F16)
edgeling=${EDGELING:-edgeling}
base=${source%-f16.gguf}
mkdir -p "$results"
for type in "${types[@]}"; do
    file=$base-${type,,}.gguf
    [[ -e $file ]] || "$edgeling" quantize "$source" "$type" --out "$file" --json >/dev/null
    "$edgeling" bench "$file" --against "$peer" --repeat "${REPEAT:-5}" --json >"$results/$(basename "${file%.gguf}").json"
    echo "$file"
done
