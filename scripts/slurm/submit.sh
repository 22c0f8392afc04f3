#!/bin/bash
# Submits an array over the shards of a manifest, and a merge after the last task, whatever its end.
#
#   scripts/slurm/submit.sh cases.jsonl results SHARDS [AT ONCE] [MINUTES]
#
# Prints the two job ids. VOLSEG (the program), VOLSEG_OPTIONS (such as "--organs liver --per-organ"), VOLSEG_STOP_AFTER and
# VOLSEG_SBATCH (options of sbatch, such as "--partition=long --cpus-per-task=4 --mem=8G") are taken from the environment.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
minutes=${5:-60}
export VOLSEG=${VOLSEG:-volseg} VOLSEG_OPTIONS=${VOLSEG_OPTIONS:-}
VOLSEG_MANIFEST=$(realpath "$1") VOLSEG_OUT=$(realpath -m "$2") VOLSEG_SHARDS=$3
export VOLSEG_MANIFEST VOLSEG_OUT VOLSEG_SHARDS
export VOLSEG_STOP_AFTER=${VOLSEG_STOP_AFTER:-$((minutes > 10 ? minutes - 5 : (minutes + 1) / 2))m}
mkdir -p "$VOLSEG_OUT.logs"
# shellcheck disable=SC2086
array=$(sbatch --parsable --export=ALL --array="0-$((VOLSEG_SHARDS - 1))%${4:-$VOLSEG_SHARDS}" --time="$minutes" \
    --job-name=volseg --output="$VOLSEG_OUT.logs/%A_%a.log" ${VOLSEG_SBATCH:-} "$here/array.sh")
merge=$(sbatch --parsable --export=ALL --dependency="afterany:$array" --time=60 --job-name=volseg-merge \
    --output="$VOLSEG_OUT.logs/%A_merge.log" \
    --wrap '"$VOLSEG" batch merge --out "$VOLSEG_OUT" --manifest "$VOLSEG_MANIFEST" --strict')
echo "$array $merge"
