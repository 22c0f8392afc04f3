#!/usr/bin/env bash
# Start-up time and memory with many cases: copies of one tiny phantom with different names.
#
#   scripts/soak/many.sh [VOLSEG] [CASES]
set -euo pipefail
volseg=$(realpath "${1:-target/release/volseg}") count=${2:-10000}
work=$(mktemp -d "${TMPDIR:-/tmp}/volseg-many.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
"$volseg" phantom --modality xray --seed 1 -o one --quiet
for n in $(seq "$count"); do
    folder=archive/$((n / 1000))
    mkdir -p "$folder"
    ln one/image.png "$folder/$n.png"
done
measure() { # NAME COMMAND...
    local name=$1; shift
    /usr/bin/time -f "$name: %e s, %M KiB" -o time.txt "$@" >/dev/null || true
    cat time.txt
}
measure "manifest build, $count cases" "$volseg" manifest build archive -o cases.jsonl --quiet
measure "batch run, first case only, $count cases" "$volseg" batch run --manifest cases.jsonl --out out --stop-after 0s --quiet
measure "batch run, shard 0/100" "$volseg" batch run --manifest cases.jsonl --out out --shard 0/100 --quiet
measure "batch run, shard 0/100 again" "$volseg" batch run --manifest cases.jsonl --out out --shard 0/100 --quiet
measure "batch status" "$volseg" batch status --manifest cases.jsonl --out out
