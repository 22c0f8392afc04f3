#!/usr/bin/env bash
# Checks BiomedCLIP and its activation maps against another fixture of the same form as crates/volseg-prompt/tests/fixtures/clip_tiny
# (model.safetensors, expected.safetensors, vocab.txt, config.json):
#   scripts/parity/check_clip_fixture.sh FOLDER
set -euo pipefail
folder=$(realpath "$1")
cd "$(dirname "$0")/../.."
VOLSEG_CLIP_FIXTURE=$folder cargo test --release --workspace --test clip_fixture -- --nocapture
