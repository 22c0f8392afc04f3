#!/usr/bin/env bash
# Cross-validation by group: for each fold the embedded network is trained from scratch on the other folds' pictures and scored on
# the fold's own. Needs the two picture sets of the model card (images/, masks/, index.csv), a built target/release/volseg, and
# Python with Pillow. A stopped run goes on where it was; finished folds are not done again.
#   scripts/train_folds.sh BUSI_DIR CXR_DIR OUT_DIR STEPS [options of volseg, such as --device cuda or --threads 1]
# In the environment: FOLDS (5), ONLY ("0 1": these folds alone), MODES ("organ box chain"), LIMIT (score so many pictures only),
# VOLSEG (the program), BATCH ("5 3": ultrasounds and X-rays a step), SIDE (128: pixels of the network's input; a step at 64 takes a
# quarter of the time).
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
    cat >"$run/folds.toml" <<TOML
steps = $steps
learning_rate = 0.001
save_every = 100
validate_every = 500
rows_picture = 2
seed = 3

[model]
side = ${SIDE:-128}

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
    if [[ ! -e $run/trained ]]; then
        resume=
        [[ -e $run/checkpoint.safetensors ]] && resume=--resume
        "$volseg" train prompt --config "$run/folds.toml" --out "$run" $resume "$@"
        touch "$run/trained"
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
