//! Compiles the GPU kernels to PTX when the feature `cuda` is on. `CUDA_COMPUTE_CAP` (90 if unset) is the oldest GPU they run on.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/cuda/kernels.cu");
    println!("cargo:rerun-if-env-changed=CUDA_COMPUTE_CAP");
    if var("CARGO_FEATURE_CUDA").is_err() {
        return;
    }
    let out = format!("{}/kernels.ptx", var("OUT_DIR").unwrap_or_default());
    let arch = format!("-arch=compute_{}", var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "90".into()));
    let compiled = Command::new("nvcc").args(["-ptx", "-O3", &arch, "-o", &out, "src/cuda/kernels.cu"]).status();
    if !compiled.as_ref().is_ok_and(std::process::ExitStatus::success) {
        println!("cargo:warning=nvcc: {compiled:?}");
        std::process::exit(1);
    }
}
