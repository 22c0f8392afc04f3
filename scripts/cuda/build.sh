#!/usr/bin/env bash
# Builds volseg with the feature `cuda` on a machine without a GPU, and packs it with what it needs there:
#   scripts/cuda/build.sh [TOOLKIT_DIR]     (default target/cuda)  ->  target/cuda/volseg-cuda.tar.xz
# Needs python3 with pip, g++ and about 3 GB of disk. The compiler and the libraries come from PyPI, pinned to CUDA 13.0: a newer
# nvcc writes PTX that an older driver refuses. CUDA_COMPUTE_CAP (90, Hopper, if unset) is the GPU that it is built for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
kit=${1:-target/cuda}
mkdir -p "$kit"
kit=$(cd "$kit" && pwd)
toolkit=$kit/site/nvidia/cu13
if [ ! -x "$toolkit/bin/nvcc" ]; then
    python3 -m pip install --quiet --no-deps --target "$kit/site" 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' \
        'nvidia-cuda-runtime==13.0.*' 'nvidia-cublas==13.0.*' 'nvidia-curand==10.4.0.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-cccl==13.0.*'
fi
# The wheels hold libraries by their full names only; the linker looks for the plain ones.
for name in cublas.so.13 cublasLt.so.13 cudart.so.13 nvrtc.so.13 curand.so.10; do
    ln -sf "lib$name" "$toolkit/lib/lib${name%.*}"
done
# The driver's library comes with the driver. To link, one that holds the names is enough.
cargo fetch --locked --quiet
names=$(find "${CARGO_HOME:-$HOME/.cargo}"/registry/src -path '*cudarc-*/src/driver/sys/mod.rs' -exec grep -ohE 'fn cu[A-Z][A-Za-z0-9_]*' {} + | cut -c4- | sort -u)
[ -n "$names" ]
mkdir -p "$toolkit/lib/stubs"
for name in $names; do printf 'int %s(void) { return 999; }\n' "$name"; done >"$kit/driver.c"
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$toolkit/lib/stubs/libcuda.so" "$kit/driver.c"
ln -sf libcuda.so "$toolkit/lib/stubs/libcuda.so.1"

export PATH=$toolkit/bin:$PATH CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CUDAFORGE_THREADS=2
export LIBRARY_PATH=$toolkit/lib:$toolkit/lib/stubs
cargo build --release --locked -p volseg-cli -p volseg-model --bin volseg --example sam_full_size \
    --features volseg-cli/cuda,volseg-model/cuda --target-dir "$kit/target"
pack=$kit/volseg-cuda
mkdir -p "$pack"
cp "$kit/target/release/volseg" "$kit/target/release/examples/sam_full_size" "$pack/"
# With the stand-in for the driver the program must at least start.
LD_LIBRARY_PATH=$toolkit/lib:$toolkit/lib/stubs "$pack/volseg" --version
tar -C "$kit" -cJf "$kit/volseg-cuda.tar.xz" volseg-cuda
ls -l "$kit/volseg-cuda.tar.xz"
