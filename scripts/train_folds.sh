#!/usr/bin/env bash
# Cross-validation by group: for each fold the embedded network is trained from scratch on the other folds' pictures and scored on
# the fold's own. Needs the two picture sets of the model card (images/, masks/, index.csv), a built target/release/volseg, and
# Python with Pillow. A stopped run goes on where it was; finished folds are not done again.
#   scripts/train_folds.sh BUSI_DIR CXR_DIR OUT_DIR STEPS [options of volseg, such as --device cuda or --threads 1]
# In the environment: FOLDS (5), ONLY ("0 1": these folds alone), MODES ("organ box chain"), LIMIT (score so many pictures only),
# VOLSEG (the program), BATCH ("5 3": ultrasounds and X-rays a step), COARSE (steps at 64 px before STEPS at 128 px: a quarter of the time each).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
busi=$1 cxr=$2 out=$3 steps=$4
shift 4
volseg=${VOLSEG:-$here/../target/release/volseg}
folds=${FOLDS:-5}
read -r busi_batch cxr_batch <<<"${BATCH:-5 3}"
threads=
for ((n = 1; n < $#; n++)); do
    [[ ${!n} == --threads ]] && { m=$((n + 1)); threads=${!m}; }
done

for fold in ${ONLY:-$(seq 0 $((folds - 1)))}; do
    run=$out/fold$fold
    mkdir -p "$run"
    split="split = { seed = 0, fold = $fold, folds = $folds, validation = 0.1 }"
    # $1: steps, $2: greatest learning rate, $3: side, $4: weights to begin with
    config() {
        cat <<TOML
steps = $1
learning_rate = $2
save_every = 100
validate_every = 500
rows_picture = 2
seed = 3
${4:+start_from = \"$4\"}

[model]
side = $3

[[pictures]]
path = "$busi"
modality = "ultrasound"
organ = "breast_tumor"
batch = $busi_batch
group_column = "near_duplicate_group"
$split

[[pictures]]
path = "$cxr"
modality = "xray"
organ = "lungs"
batch = $cxr_batch
$split
TOML
    }
    # $1: folder, $2 to $5 as above; the rest: options of volseg
    train() {
        local to=$1 resume=
        [[ -e $to/trained ]] && return
        mkdir -p "$to"
        config "$2" "$3" "$4" "$5" >"$to/folds.toml"
        [[ -e $to/checkpoint.safetensors ]] && resume=--resume
        "$volseg" train prompt --config "$to/folds.toml" --out "$to" $resume "${@:6}"
        touch "$to/trained"
    }
    if [[ -n ${COARSE:-} ]]; then
        train "$run/coarse" "$COARSE" 0.001 64 "" "$@"
        train "$run" "$steps" 0.0005 128 "$run/coarse/model.safetensors" "$@"
    else
        train "$run" "$steps" 0.001 128 "" "$@"
    fi
    for mode in ${MODES:-organ box chain}; do
        for set in "$busi breast_tumor ultrasound" "$cxr lungs xray"; do
            read -r data organ modality <<<"$set"
            [[ -e $run/$organ-$mode.json ]] && continue
            python3 "$here/evaluate/pictures.py" --volseg "$volseg" --data "$data" --organ "$organ" --modality "$modality" \
                --split "$run/split.json" --part Test --mode "$mode" --model "$run/model.safetensors" \
                ${LIMIT:+--limit "$LIMIT"} ${threads:+--threads "$threads"} --scores "$run/$organ-$mode.json" >"$run/$organ-$mode.log"
        done
    done
done
python3 "$here/evaluate/folds.py" "$out" | tee "$out/folds.md"
