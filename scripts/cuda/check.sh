#!/usr/bin/env bash
# Parity and speed on a machine with a GPU, with what scripts/cuda/build.sh packed:
#   scripts/cuda/check.sh PACK [WORK_DIR]     (PACK is the unpacked folder volseg-cuda)
# Needs python3 with torch for CUDA and safetensors; about 4 GB of disk in WORK_DIR. Prints JSON lines and volseg's own tables.
set -euo pipefail
pack=$(cd "$1" && pwd)
work=${2:-$(mktemp -d)}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
libraries=$(python3 -c 'import nvidia, os; print(os.path.join(list(nvidia.__path__)[0], "cu13", "lib"))')
export LD_LIBRARY_PATH=$libraries:${LD_LIBRARY_PATH:-}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$pack/volseg" --version

echo "== a phantom CT with the embedded model, on the CPU and on the GPU"
TIMEFORMAT="%R s wall"
for device in cpu cuda; do
    echo $device
    time "$pack/volseg" --device $device segment volumes/ct-phantom.nii.gz -o "$work/$device.nii.gz" --quiet
done
"$pack/volseg" eval --gt "$work/cpu.nii.gz" --pred "$work/cuda.nii.gz" --tolerance 1

echo "== ViT-B with adapters, random weights"
[ -e "$work/model.pth" ] || python3 scripts/parity/full_size.py "$work"
[ -e "$work/model.safetensors" ] || "$pack/volseg" weights import "$work/model.pth" -o "$work/model.safetensors" --quiet
"$pack/sam_full_size" compare "$work/model.safetensors" "$work/expected.safetensors"
"$pack/sam_full_size" gpu "$work/model.safetensors"
python3 scripts/peers/torch_gpu.py "$work"
