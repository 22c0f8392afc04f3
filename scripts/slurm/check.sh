#!/usr/bin/env bash
# Tries submit.sh on a real Slurm on this machine: an array of 8, two at a time, that stops early, requeues itself and ends
# whole; a real time limit; a resubmission; the merge. Takes some minutes. Needs root, slurm-wlm and munge.
#
#   scripts/slurm/check.sh [VOLSEG]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export VOLSEG=$(realpath "${1:-target/release/volseg}")
. "$here/one_machine.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/volseg-slurm.XXXXXX")
trap 'slurm_stop; rm -rf "$work"' EXIT
slurm_start
cd "$work"
tree() { (cd "$1" && find . -type f ! -name timings.json ! -name '*.csv' ! -name cohort.html -print0 | sort -z | xargs -0 sha256sum && find . -name .partial); }
state() { timeout 10 scontrol show job "$1" | grep -o 'JobState=[A-Z]*' | sort | uniq -c | tr '\n' ' '; }

"$VOLSEG" phantom --modality xray --seed 1 -o one --quiet
mkdir archive
for n in $(seq 24); do ln one/image.png "archive/$n.png"; done
"$VOLSEG" manifest build archive -o cases.jsonl
"$VOLSEG" batch run --manifest cases.jsonl --out whole --quiet

# Every run ends after one case, so that tasks requeue themselves until their shard is done.
VOLSEG_STOP_AFTER=0s "$here/submit.sh" cases.jsonl results 8 2 10 | tee ids
read -r array merge <ids
most=0
while [ -n "$(timeout 10 squeue -h 2>/dev/null)" ]; do
    now=$(timeout 10 squeue -h -r -t R -j "$array" 2>/dev/null | wc -l)
    [ "$now" -le "$most" ] || most=$now
    sleep 0.5
done
echo "array $array: at most $most tasks at once; $(state "$array")merge: $(state "$merge")"
echo "requeued runs: $(cat results.logs/*_[0-9].log | grep -c ' left$' || true); stopped with cases left: $(cat results.logs/*_[0-9].log | grep -c ' [1-9][0-9]* left$')"
cat results.logs/*_merge.log
[ "$most" -le 2 ]
diff <(tree whole) <(tree results) && echo "equal: requeued array and one run"
[ -f results/cohort.html ]

# A real time limit: one task, more cases than fit into a minute.
for n in $(seq 25 "${LONG:-300}"); do ln one/image.png "archive/$n.png"; done
"$VOLSEG" manifest build archive -o cases.jsonl --quiet
VOLSEG_STOP_AFTER=10h "$here/submit.sh" cases.jsonl limited 1 1 1 >ids
read -r array merge <ids
slurm_wait
echo "time limit: $(state "$array")$(find limited -name result.json | wc -l) of $(wc -l <cases.jsonl) cases done, merge: $(state "$merge")"
timeout 10 scontrol show job "$array" | grep -q JobState=TIMEOUT
[ ! -e limited/.partial ] && echo "no partial case is left"
VOLSEG_STOP_AFTER=10h "$here/submit.sh" cases.jsonl limited 4 4 30 >ids
read -r array merge <ids
slurm_wait
echo "resubmitted: $(state "$array")merge: $(state "$merge")"
"$VOLSEG" batch status --manifest cases.jsonl --out limited --shards 4
[ "$(find limited -name result.json | wc -l)" = "$(wc -l <cases.jsonl)" ] && echo "slurm: all as it should be"
