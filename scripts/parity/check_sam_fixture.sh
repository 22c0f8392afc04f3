#!/bin/sh
# Checks our torch code and our Rust code against a SAM-Med2D fixture folder made elsewhere.
# usage: check_sam_fixture.sh FOLDER   (PYTHON names a python with torch and safetensors)
set -eu
folder=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
"${PYTHON:-python3}" "$here/check_given_fixture.py" "$folder"
cd "$here/../.."
VOLSEG_SAM_FIXTURE="$folder" cargo test --release --workspace --test sam_fixture
