// Kernels of the embedded network's training and use on a GPU: patches of convolutions and group norms, f32, pixels-last-channel.
// Every sum has a fixed order, so equal input gives equal output. Each element of an output is written by one thread.

typedef unsigned int u32;

// Grid-stride loop over `total` elements.
#define EACH(i, total) for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x)

// x [b, h, w, c] -> out [b, oh, ow, size, size, c], zero outside.
extern "C" __global__ void unfold(const float* x, float* out, u32 total, int h, int w, int c, int oh, int ow, int size,
                                  int stride, int pad) {
    EACH(i, total) {
        u32 r = i;
        int ch = r % c; r /= c;
        int kx = r % size; r /= size;
        int ky = r % size; r /= size;
        int ox = r % ow; r /= ow;
        int oy = r % oh; r /= oh;
        int y = oy * stride + ky - pad, xx = ox * stride + kx - pad;
        bool inside = y >= 0 && y < h && xx >= 0 && xx < w;
        out[i] = inside ? x[((r * h + y) * w + xx) * c + ch] : 0.f;
    }
}

// The adjoint: rows [b, oh, ow, size, size, c] -> out [b, h, w, c], each pixel the sum over the windows that hold it.
extern "C" __global__ void fold(const float* rows, float* out, u32 total, int h, int w, int c, int oh, int ow, int size,
                                int stride, int pad) {
    EACH(i, total) {
        u32 r = i;
        int ch = r % c; r /= c;
        int x = r % w; r /= w;
        int y = r % h; r /= h;
        float sum = 0.f;
        for (int ky = 0; ky < size; ++ky) {
            int oy = y + pad - ky;
            if (oy < 0 || oy % stride || oy / stride >= oh) continue;
            oy /= stride;
            for (int kx = 0; kx < size; ++kx) {
                int ox = x + pad - kx;
                if (ox < 0 || ox % stride || ox / stride >= ow) continue;
                ox /= stride;
                sum += rows[((((r * oh + oy) * ow + ox) * size + ky) * size + kx) * c + ch];
            }
        }
        out[i] = sum;
    }
}

// Per-channel sums over a chunk of an image's pixels: out [b, chunks, 2, c] of u and u * v, where u counts only while
// y > 0 if `masked`. One block a (image, chunk); threads are `lanes` rows of c.
extern "C" __global__ void channel_sums(const float* u, const float* v, const float* y, float* out, int pixels, int c,
                                        int chunks, int masked) {
    extern __shared__ float shared[];
    int image = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    int lanes = blockDim.x / c, lane = threadIdx.x / c, ch = threadIdx.x % c;
    int each = (pixels + chunks - 1) / chunks;
    int end = min(pixels, (chunk + 1) * each);
    float s = 0.f, d = 0.f;
    if (lane < lanes) {
        for (int p = chunk * each + lane; p < end; p += lanes) {
            u32 at = ((u32)image * pixels + p) * c + ch;
            float a = u[at];
            if (masked && !(y[at] > 0.f)) a = 0.f;
            s += a;
            d += a * v[at];
        }
        shared[threadIdx.x] = s;
        shared[blockDim.x + threadIdx.x] = d;
    }
    __syncthreads();
    if (threadIdx.x < c) {
        s = 0.f;
        d = 0.f;
        for (int l = 0; l < lanes; ++l) {
            s += shared[l * c + ch];
            d += shared[blockDim.x + l * c + ch];
        }
        float* o = out + (u32)blockIdx.x * 2 * c;
        o[ch] = s;
        o[c + ch] = d;
    }
}

// The two sums of this block's image and this thread's channel over all chunks.
__device__ void total(const float* sums, int c, int chunks, double& s, double& d) {
    s = d = 0;
    for (int n = 0; n < chunks; ++n) {
        const float* p = sums + ((u32)blockIdx.x * chunks + n) * 2 * c;
        s += p[threadIdx.x];
        d += p[c + threadIdx.x];
    }
}

// Every channel's two numbers -> their sums over the channels of its group, a pixel and channel of it.
__device__ void group_means(double& a, double& b, int c, int size, int pixels) {
    extern __shared__ double wide[];
    wide[threadIdx.x] = a;
    wide[c + threadIdx.x] = b;
    __syncthreads();
    a = b = 0;
    for (int i = threadIdx.x / size * size, n = 0; n < size; ++n, ++i) {
        a += wide[i];
        b += wide[c + i];
    }
    a /= (double)pixels * size;
    b /= (double)pixels * size;
}

// Sums of x and x² -> per channel the factor and the term of the norm, and mean and 1/deviation: out [b, 4, c].
// One block an image, one thread a channel.
extern "C" __global__ void norm_factors(const float* sums, const float* gamma, const float* beta, float* out, int pixels,
                                        int c, int chunks, int groups) {
    int ch = threadIdx.x;
    double s, d;
    total(sums, c, chunks, s, d);
    double mean = s, square = d;
    group_means(mean, square, c, c / groups, pixels);
    double variance = square - mean * mean;
    double r = 1.0 / sqrt((variance > 0 ? variance : 0) + 1e-5);
    float* o = out + (u32)blockIdx.x * 4 * c;
    o[ch] = (float)(r * gamma[ch]);
    o[c + ch] = (float)(beta[ch] - mean * r * gamma[ch]);
    o[2 * c + ch] = (float)mean;
    o[3 * c + ch] = (float)r;
}

// out = x * factor + term, and ReLU if asked.
extern "C" __global__ void norm_apply(const float* x, const float* factors, float* out, u32 total, int image, int c, int relu) {
    EACH(i, total) {
        const float* f = factors + i / image * 4 * c;
        int ch = i % c;
        float v = x[i] * f[ch] + f[c + ch];
        out[i] = relu && v < 0.f ? 0.f : v;
    }
}

// Sums of dz and dz * x, and the factors of the forward pass -> out [b, 5, c]: what dz, x and 1 are multiplied by for dx,
// and the image's share of the gradients of gamma and beta.
extern "C" __global__ void norm_back_factors(const float* sums, const float* factors, const float* gamma, float* out,
                                             int pixels, int c, int chunks, int groups) {
    int ch = threadIdx.x;
    double s, d;
    total(sums, c, chunks, s, d);
    const float* f = factors + (u32)blockIdx.x * 4 * c;
    double mean = f[2 * c + ch], r = f[3 * c + ch], normed = (d - mean * s) * r;
    double m1 = s * gamma[ch], m2 = normed * gamma[ch];
    group_means(m1, m2, c, c / groups, pixels);
    float* o = out + (u32)blockIdx.x * 5 * c;
    o[ch] = (float)(r * gamma[ch]);
    o[c + ch] = (float)(-r * r * m2);
    o[2 * c + ch] = (float)(-r * m1 + r * r * m2 * mean);
    o[3 * c + ch] = (float)normed;
    o[4 * c + ch] = (float)s;
}

// out = dz * a + x * b + k, dz counting only while y > 0 if `masked`.
extern "C" __global__ void norm_back(const float* dz, const float* x, const float* y, const float* factors, float* out,
                                     u32 total, int image, int c, int masked) {
    EACH(i, total) {
        const float* f = factors + i / image * 5 * c;
        int ch = i % c;
        float g = masked && !(y[i] > 0.f) ? 0.f : dz[i];
        out[i] = g * f[ch] + x[i] * f[c + ch] + f[2 * c + ch];
    }
}
