#!/usr/bin/env bash
# Trains the embedded image-text model from scratch. Needs the two picture sets of its model card (images/, masks/, index.csv):
#   scripts/train_clip.sh BUSI_DIR CXR_DIR OUT_DIR [--resume]
set -euo pipefail
cd "$(dirname "$0")/.."
busi=$1 cxr=$2 out=$3
shift 3
cargo build --release -p volseg-cli
mkdir -p "$out"
sed -e "s|BUSI_DIR|$busi|" -e "s|CXR_DIR|$cxr|" scripts/train_clip.toml >"$out/clip.toml"
target/release/volseg train clip --config "$out/clip.toml" --out "$out" "$@"
echo "weights: $out/model.safetensors (the shipped ones went through scripts/train_clip_readout.py afterwards)"
