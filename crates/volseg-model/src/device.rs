use crate::Error;
use candle_core::Device;

/// The GPU of this number.
///
/// # Errors
/// [`Error::NoGpu`] if this build has no GPU support (feature `cuda`) or there is no such GPU.
pub fn gpu(number: usize) -> Result<Device, Error> {
    #[cfg(feature = "cuda")]
    // One stream for all threads: `Device::new_cuda` gives every thread its own, and nothing orders their work on shared tensors.
    let found = Device::new_cuda_with_stream(number).and_then(|device| {
        if let Device::Cuda(cuda) = &device {
            crate::cuda::prepare(cuda)?;
        }
        Ok(device)
    });
    #[cfg(not(feature = "cuda"))]
    let found: Result<Device, &str> = Err("this build runs on the CPU alone");
    let reason = |e: &dyn std::fmt::Display| e.to_string().lines().next().unwrap_or_default().to_owned();
    found.map_err(|e| Error::NoGpu { number, reason: reason(&e) })
}
