//! The door to our GPU kernels (`cuda/kernels.cu`), for `f32` tensors. Everything else on a GPU runs on candle's own operations.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig, PushKernelArg, result, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Result, Storage, Tensor};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const THREADS: u32 = 256;

/// Prepares a device that was just opened with one stream for all its work. The driver keeps freed memory: by default it gives
/// all of it back whenever the host waits for the GPU. Events that would order several streams are left out.
#[allow(unsafe_code)]
pub(crate) fn prepare(device: &CudaDevice) -> Result<()> {
    let place = device.cuda_stream().context().cu_device();
    // SAFETY: all tensors of the device live on its one stream, whose work is done in its order.
    unsafe { device.disable_event_tracking() };
    let mut threshold = u64::MAX;
    // SAFETY: foreign calls on the device that `device` holds open; the attribute is a 64-bit number, which is copied.
    unsafe {
        let pool = result::device::get_default_mem_pool(place).w()?;
        let value = std::ptr::from_mut(&mut threshold).cast();
        sys::cuMemPoolSetAttribute(pool, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, value)
            .result()
            .w()
    }
}

/// An argument of a kernel.
pub(crate) enum Arg<'a> {
    View(&'a CudaView<'a, f32>),
    Slice(&'a CudaSlice<f32>),
    U32(u32),
    I32(i32),
}

/// Blocks, threads of each and bytes that a block shares.
pub(crate) struct Launch(u32, u32, u32);

impl Launch {
    /// For kernels that walk over `total` elements in a loop.
    pub(crate) fn over(total: usize) -> Result<(Self, u32)> {
        // Indices in the kernels are 32 bits wide; the stride of the loop must not overflow them either.
        let total = u32::try_from(total)
            .ok()
            .filter(|t| *t < u32::MAX / 2)
            .ok_or_else(|| candle_core::Error::Msg(format!("{total} numbers are too many for one GPU operation")))?;
        Ok((Self(total.div_ceil(THREADS).clamp(1, 65_536), THREADS, 0), total))
    }
}

/// Runs a kernel.
#[allow(unsafe_code)]
fn launch(
    device: &CudaDevice,
    name: &str,
    Launch(blocks, threads, shared): Launch,
    arguments: &[Arg<'_>],
) -> Result<()> {
    let f = device.get_or_load_custom_func(name, "volseg", PTX)?;
    let mut builder = f.builder();
    for a in arguments {
        match a {
            Arg::View(v) => builder.arg(*v),
            Arg::Slice(v) => builder.arg(*v),
            Arg::U32(v) => builder.arg(v),
            Arg::I32(v) => builder.arg(v),
        };
    }
    let shape = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared };
    // SAFETY: a launch is foreign code. The callers below give every kernel the arguments that its declaration names and
    // buffers of the lengths that its loops walk over; those lengths come from the tensors' own shapes.
    unsafe { builder.launch(shape) }.w()?;
    Ok(())
}

/// The values of a contiguous `f32` storage on the GPU.
pub(crate) fn values<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, f32>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("operation needs contiguous input".into()))?;
    Ok(storage.as_cuda_slice::<f32>()?.slice(start..end))
}

fn int(n: usize) -> Arg<'static> {
    Arg::I32(n as i32)
}

/// Sizes of a picture and of the windows over it.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) batch: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    pub(crate) size: usize,
    pub(crate) stride: usize,
    pub(crate) pad: usize,
}

impl Windows {
    fn run(&self, name: &str, storage: &CudaStorage, layout: &Layout, total: usize) -> Result<CudaStorage> {
        let device = storage.device.clone();
        let out = device.alloc_zeros::<f32>(total)?;
        let (shape, total) = Launch::over(total)?;
        let x = values(storage, layout)?;
        let sizes = [self.h, self.w, self.c, self.oh, self.ow, self.size, self.stride, self.pad].map(int);
        let mut arguments = vec![Arg::View(&x), Arg::Slice(&out), Arg::U32(total)];
        arguments.extend(sizes);
        launch(&device, name, shape, &arguments)?;
        Ok(CudaStorage::wrap_cuda_slice(out, device))
    }

    pub(crate) fn unfold(&self, storage: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
        self.run("unfold", storage, layout, self.batch * self.oh * self.ow * self.size * self.size * self.c)
    }

    pub(crate) fn fold(&self, storage: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
        self.run("fold", storage, layout, self.batch * self.h * self.w * self.c)
    }
}

/// Sizes of a group norm over `[batch, pixels, c]`.
#[derive(Clone, Copy)]
pub(crate) struct Norm {
    pub(crate) batch: usize,
    pub(crate) pixels: usize,
    pub(crate) c: usize,
    pub(crate) groups: usize,
    pub(crate) relu: bool,
}

impl Norm {
    fn chunks(&self) -> usize {
        self.pixels.div_ceil(512)
    }

    /// Sums of `u` and `u · v` in chunks; with `masked`, of `u` where `y` is positive.
    fn sums(&self, device: &CudaDevice, [u, v, y]: [&CudaView<'_, f32>; 3], masked: bool) -> Result<CudaSlice<f32>> {
        let chunks = self.chunks();
        let out = device.alloc_zeros::<f32>(self.batch * chunks * 2 * self.c)?;
        let threads = (THREADS as usize / self.c).max(1) * self.c;
        let shape = Launch((self.batch * chunks) as u32, threads as u32, (8 * threads) as u32);
        let views = [Arg::View(u), Arg::View(v), Arg::View(y), Arg::Slice(&out)];
        let sizes = [int(self.pixels), int(self.c), int(chunks), int(usize::from(masked))];
        launch(device, "channel_sums", shape, &views.into_iter().chain(sizes).collect::<Vec<_>>())?;
        Ok(out)
    }

    /// A launch of one block an image and one thread a channel.
    fn by_image(&self) -> Launch {
        Launch(self.batch as u32, self.c as u32, (16 * self.c) as u32)
    }

    fn sizes(&self) -> [Arg<'static>; 4] {
        [int(self.pixels), int(self.c), int(self.chunks()), int(self.groups)]
    }

    fn factors(
        &self,
        device: &CudaDevice,
        x: &CudaView<'_, f32>,
        gamma: &CudaView<'_, f32>,
        beta: &CudaView<'_, f32>,
    ) -> Result<CudaSlice<f32>> {
        let sums = self.sums(device, [x, x, x], false)?;
        let out = device.alloc_zeros::<f32>(self.batch * 4 * self.c)?;
        let views = [Arg::Slice(&sums), Arg::View(gamma), Arg::View(beta), Arg::Slice(&out)];
        launch(device, "norm_factors", self.by_image(), &views.into_iter().chain(self.sizes()).collect::<Vec<_>>())?;
        Ok(out)
    }

    fn total(&self) -> usize {
        self.batch * self.pixels * self.c
    }

    pub(crate) fn forward(
        &self,
        x: (&CudaStorage, &Layout),
        gamma: (&CudaStorage, &Layout),
        beta: (&CudaStorage, &Layout),
    ) -> Result<CudaStorage> {
        let device = x.0.device.clone();
        let (x, gamma, beta) = (values(x.0, x.1)?, values(gamma.0, gamma.1)?, values(beta.0, beta.1)?);
        let factors = self.factors(&device, &x, &gamma, &beta)?;
        let out = device.alloc_zeros::<f32>(self.total())?;
        let (shape, total) = Launch::over(self.total())?;
        let image = int(self.pixels * self.c);
        let arguments = [
            Arg::View(&x),
            Arg::Slice(&factors),
            Arg::Slice(&out),
            Arg::U32(total),
            image,
            int(self.c),
            int(usize::from(self.relu)),
        ];
        launch(&device, "norm_apply", shape, &arguments)?;
        Ok(CudaStorage::wrap_cuda_slice(out, device))
    }

    /// Gradients of x, gamma and beta from those of the result `y`.
    pub(crate) fn backward(&self, [x, gamma, beta, y, grad]: [&Tensor; 5]) -> Result<[Tensor; 3]> {
        let tensors = [x.contiguous()?, gamma.contiguous()?, beta.contiguous()?, y.contiguous()?, grad.contiguous()?];
        let held = tensors.each_ref().map(Tensor::storage_and_layout);
        let mut views = Vec::with_capacity(5);
        let mut device = None;
        for (storage, layout) in &held {
            let Storage::Cuda(cuda) = &**storage else {
                candle_core::bail!("group norm: not all tensors are on the GPU")
            };
            device = Some(cuda.device.clone());
            views.push(values(cuda, layout)?);
        }
        let (Some(device), [xs, gammas, betas, ys, grads]) = (device, views.as_slice()) else {
            candle_core::bail!("group norm: no tensors")
        };
        let factors = self.factors(&device, xs, gammas, betas)?;
        let sums = self.sums(&device, [grads, xs, ys], self.relu)?;
        let back = device.alloc_zeros::<f32>(self.batch * 5 * self.c)?;
        let arguments = [Arg::Slice(&sums), Arg::Slice(&factors), Arg::View(gammas), Arg::Slice(&back)];
        launch(
            &device,
            "norm_back_factors",
            self.by_image(),
            &arguments.into_iter().chain(self.sizes()).collect::<Vec<_>>(),
        )?;
        let dx = device.alloc_zeros::<f32>(self.total())?;
        let (shape, total) = Launch::over(self.total())?;
        let arguments = [
            Arg::View(grads),
            Arg::View(xs),
            Arg::View(ys),
            Arg::Slice(&back),
            Arg::Slice(&dx),
            Arg::U32(total),
            int(self.pixels * self.c),
            int(self.c),
            int(usize::from(self.relu)),
        ];
        launch(&device, "norm_back", shape, &arguments)?;
        let tensor = |s: CudaSlice<f32>, dims: &[usize]| {
            let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(s, device.clone()));
            Tensor::from_storage(storage, dims, BackpropOp::none(), false)
        };
        let shares = tensor(back, &[self.batch, 5, self.c]).sum(0)?;
        Ok([tensor(dx, x.dims()), shares.get(3)?, shares.get(4)?])
    }
}
