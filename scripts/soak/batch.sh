#!/usr/bin/env bash
# Kills workers of `volseg batch run` at random moments, fills disks, lets workers meet, and compares what is left with an
# undisturbed run, byte by byte. Needs Linux, bash, coreutils; the full disk needs root (a tmpfs of 2 MiB).
#
#   scripts/soak/batch.sh [VOLSEG] [KILLS] [CASES]
set -euo pipefail
volseg=$(realpath "${1:-target/release/volseg}") kills=${2:-50} count=${3:-12}
work=$(mktemp -d "${TMPDIR:-/tmp}/volseg-soak.XXXXXX")
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$work"' EXIT
cd "$work"
echo "work: $work, $(nproc) cores, $("$volseg" --version | tr '\n' ' ')"

# Small pictures with different bytes: an X-ray takes one pass of the network.
make_case() { "$volseg" phantom --modality "$1" --seed "$2" -o "archive/$2" --quiet && rm -f "archive/$2"/labels.*; }
for n in $(seq "$count"); do make_case xray "$n"; done
"$volseg" manifest build archive -o cases.jsonl
run() { "$volseg" batch run --manifest cases.jsonl --quiet "$@"; }
# The worker itself, not a shell around it, so that kill -9 meets the right process.
start() { exec "$volseg" batch run --manifest cases.jsonl --quiet "$@"; }

# Names and digests of all files but those with times in them; .partial must be gone.
tree() { (cd "$1" && find . -type f ! -name timings.json -print0 | sort -z | xargs -0 sha256sum && find . -type d -name .partial); }
same() { # WHAT TREE
    diff <(tree whole) <(tree "$2") >/dev/null || { echo "DIFFERENT: $1"; diff <(tree whole) <(tree "$2") | head; exit 1; }
    echo "equal: $1"
}

run --out whole
began=$SECONDS
seven() { for i in $(seq 0 6); do run --out seven --shard "$i/7"; done; }
seven
same "7 shards against 1" seven

# kill -9 at a random moment of a run; whenever all is done, compare and start over.
done_kills=0 rounds=0
while [ "$done_kills" -lt "$kills" ]; do
    start --out killed &
    worker=$!
    sleep "$(awk -v s="$RANDOM" 'BEGIN { srand(s); printf "%.3f", 0.02 + rand() * 1.5 }')"
    if kill -9 "$worker" 2>/dev/null; then done_kills=$((done_kills + 1)); fi
    code=0
    wait "$worker" 2>/dev/null || code=$?
    if [ "$code" = 0 ]; then
        same "after $done_kills kills" killed
        rm -rf killed
        rounds=$((rounds + 1))
    fi
done
run --out killed
same "after $done_kills kills -9 ($rounds whole rounds)" killed

# Two workers on one shard, killed and started again.
for n in 1 2 3; do
    rm -rf both
    start --out both & a=$!
    start --out both & b=$!
    sleep 0.7
    kill -9 "$b" 2>/dev/null || true
    wait "$a"
    wait "$b" 2>/dev/null || true
    run --out both
    same "two workers on one shard, round $n" both
done

# A full disk: the run fails with code 1, nothing half-done is in place; with room it goes on.
if [ "$(id -u)" = 0 ]; then
    mkdir disk && mount -t tmpfs -o size="${DISK:-300k}" tmpfs disk && mounted=$work/disk
    code=0
    run --out disk/full 2>full.log || code=$?
    echo "full disk: code $code, $(find disk/full -name result.json | wc -l) of $count cases done, $(cat full.log | head -2 | tr '\n' ' ')"
    [ "$code" = 1 ] || { echo "DIFFERENT: a full disk must give code 1"; exit 1; }
    mount -o remount,size=200m disk
    run --out disk/full
    cp -r disk/full full
    same "a full disk, then room" full
fi

# A manifest that grew.
mkdir more && mv archive/1 archive/2 more/
"$volseg" manifest build archive -o cases.jsonl --quiet
run --out grown
mv more/* archive/
"$volseg" manifest build archive -o cases.jsonl --quiet
run --out grown
same "a manifest that grew" grown
echo "all equal in $((SECONDS - began)) s"
