#!/bin/bash
# The same on one machine with GNU parallel: shards as jobs, those that stopped early again, then the merge.
#
#   scripts/slurm/local.sh cases.jsonl results SHARDS [AT ONCE]
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
command -v parallel >/dev/null || { echo "GNU parallel is not installed (Debian: apt install parallel)" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export VOLSEG=${VOLSEG:-volseg} VOLSEG_MANIFEST=$1 VOLSEG_OUT=$2 VOLSEG_SHARDS=$3 VOLSEG_STOP_AFTER=${VOLSEG_STOP_AFTER:-1000h}
at_once=${4:-$(nproc)}
export SLURM_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-$(($(nproc) / at_once > 0 ? $(nproc) / at_once : 1))}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Two more rounds for shards that a full disk, a signal or VOLSEG_STOP_AFTER ended.
for round in "" --resume-failed --resume-failed; do
    # shellcheck disable=SC2086
    seq 0 $((VOLSEG_SHARDS - 1)) | parallel --will-cite -j"$at_once" --joblog "$log" $round \
        --termseq TERM,30000,KILL,25 "SLURM_ARRAY_TASK_ID={} $here/array.sh" && break || true
done
exec "$VOLSEG" batch merge --out "$VOLSEG_OUT" --manifest "$VOLSEG_MANIFEST" --strict
