// Kernels between a photo's pixels and the network's answer, beside the convolutions. Compiled by
// NVRTC for the card that is found (no header of CUDA is at hand then), and by the tests as C++.
//
// A kernel whose threads do not meet has one thread for each result. One whose threads do is
// written in phases: FOR_THREADS says what each thread of the block does, SYNC ends a phase, and
// what threads hand on lies in shared memory. Outside of FOR_THREADS all threads of a block do the
// same. The tests run a phase as a loop.
//
// Floating-point multiplications and additions are not to be fused (--fmad=false): results equal
// the processor's to the bit.

#ifdef __CUDACC_RTC__
#define SYNC() __syncthreads()
#define FOR_THREADS(t) for (unsigned t = threadIdx.x; t < blockDim.x; t += blockDim.x)
#define UNROLL_16 _Pragma("unroll 16")  // so that as many loads are on their way at a time
#define THREAD_INDEX() (blockIdx.x * blockDim.x + threadIdx.x)

struct alignas(16) Vector {  // one access of memory
  unsigned words[4];
};

__device__ inline float HalfToFloat(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ inline unsigned short FloatToHalf(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ inline unsigned FloatBits(float value) { return __float_as_uint(value); }
__device__ inline float FloatOf(unsigned bits) { return __uint_as_float(bits); }
#endif

// The element types. Load and Store are to and from float, to nearest even.
struct Fp16 {
  using Element = unsigned short;
  static constexpr int kPerVector = 8;
  __device__ static float Load(unsigned short bits) { return HalfToFloat(bits); }
  __device__ static unsigned short Store(float value) { return FloatToHalf(value); }
};

struct Bf16 {
  using Element = unsigned short;
  static constexpr int kPerVector = 8;
  __device__ static float Load(unsigned short bits) { return FloatOf((unsigned)bits << 16); }
  // Of values that are not NaN.
  __device__ static unsigned short Store(float value) {
    const unsigned bits = FloatBits(value);
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
};

struct Fp32 {
  using Element = float;
  static constexpr int kPerVector = 4;
  __device__ static float Load(float value) { return value; }
  __device__ static float Store(float value) { return value; }
};

template <typename T>
union Pack {
  Vector vector;
  typename T::Element elements[T::kPerVector];
};

// ---- From 8-bit pixels to the network's input

struct Normalization {
  float scale[3];
  float offset[3];
};

// A pixel, padded with zeros to kChannels, as one struct so that it is written at once.
template <typename T, int kChannels>
struct alignas(kChannels == 3 ? sizeof(typename T::Element)
               : sizeof(typename T::Element) * kChannels > 16
                   ? 16
                   : sizeof(typename T::Element) * kChannels) Pixel {
  typename T::Element channels[kChannels];
};

template <typename T, int kChannels>
__device__ inline void Normalize(const unsigned char* photos, unsigned pixels,
                                 const Normalization& with, void* out) {
  const unsigned i = THREAD_INDEX();
  if (i >= pixels) return;
  const unsigned char* photo = photos + (unsigned long long)i * 3;
  Pixel<T, kChannels> pixel;
  for (int c = 0; c < 3; ++c)
    pixel.channels[c] = T::Store(photo[c] * with.scale[c] + with.offset[c]);
  for (int c = 3; c < kChannels; ++c) pixel.channels[c] = 0;
  static_cast<Pixel<T, kChannels>*>(out)[i] = pixel;
}

#define NORMALIZE(name, T, channels)                                            \
  extern "C" __global__ void name(const unsigned char* photos, unsigned pixels, \
                                  Normalization with, void* out) {              \
    Normalize<T, channels>(photos, pixels, with, out);                          \
  }
NORMALIZE(normalize_fp16_3, Fp16, 3)
NORMALIZE(normalize_fp16_4, Fp16, 4)
NORMALIZE(normalize_fp16_8, Fp16, 8)
NORMALIZE(normalize_bf16_3, Bf16, 3)
NORMALIZE(normalize_bf16_4, Bf16, 4)
NORMALIZE(normalize_bf16_8, Bf16, 8)
NORMALIZE(normalize_fp32_3, Fp32, 3)
NORMALIZE(normalize_fp32_4, Fp32, 4)
NORMALIZE(normalize_fp32_8, Fp32, 8)

// ---- Between layers. Sizes are in vectors of 16 bytes.

// `row` is a row of the result: its width in pixels times its vectors per pixel.
template <typename T>
__device__ inline void MaxPool(const Vector* in, unsigned total, unsigned row, unsigned channels,
                               Vector* out) {
  const unsigned i = THREAD_INDEX();
  if (i >= total) return;
  const unsigned y = i / row, rest = i % row;
  const unsigned x = rest / channels, c = rest % channels;
  const unsigned long long corner =
      (unsigned long long)y * row * 4 + (unsigned long long)x * channels * 2 + c;
  const unsigned long long steps[4] = {0, channels, row * 2ull, row * 2ull + channels};
  Pack<T> best;
  best.vector = in[corner];
  for (int s = 1; s < 4; ++s) {
    Pack<T> other;
    other.vector = in[corner + steps[s]];
    for (int e = 0; e < T::kPerVector; ++e) {
      const float value = T::Load(other.elements[e]);
      if (value > T::Load(best.elements[e]) || value != value) best.elements[e] = other.elements[e];
    }
  }
  out[i] = best.vector;
}

#define MAX_POOL(name, T)                                                         \
  extern "C" __global__ void name(const Vector* in, unsigned total, unsigned row, \
                                  unsigned channels, Vector* out) {               \
    MaxPool<T>(in, total, row, channels, out);                                    \
  }
MAX_POOL(max_pool_fp16, Fp16)
MAX_POOL(max_pool_bf16, Bf16)
MAX_POOL(max_pool_fp32, Fp32)

// bias: a value for each channel, or null. residual: null for none.
template <typename T>
__device__ inline void FinishConv(Vector* y, unsigned total, unsigned channels, const float* bias,
                                  const Vector* residual, unsigned relu) {
  const unsigned i = THREAD_INDEX();
  if (i >= total) return;
  Pack<T> result, more;
  result.vector = y[i];
  if (residual != nullptr) more.vector = residual[i];
  const unsigned channel = i % channels * T::kPerVector;
  for (int e = 0; e < T::kPerVector; ++e) {
    float value = T::Load(result.elements[e]);
    if (bias != nullptr) value += bias[channel + e];
    if (residual != nullptr) value += T::Load(more.elements[e]);
    if (relu != 0 && value < 0) value = 0;
    result.elements[e] = T::Store(value);
  }
  y[i] = result.vector;
}

#define FINISH_CONV(name, T)                                                                       \
  extern "C" __global__ void name(Vector* y, unsigned total, unsigned channels, const float* bias, \
                                  const Vector* residual, unsigned relu) {                         \
    FinishConv<T>(y, total, channels, bias, residual, relu);                                       \
  }
FINISH_CONV(finish_conv_fp16, Fp16)
FINISH_CONV(finish_conv_bf16, Bf16)
FINISH_CONV(finish_conv_fp32, Fp32)

struct ConcatParts {
  const Vector* data[8];
  unsigned end[8];  // where the part's channels end in the result; unused ones repeat the last
};

extern "C" __global__ void concat(ConcatParts parts, unsigned total, unsigned channels,
                                  Vector* out) {
  const unsigned i = THREAD_INDEX();
  if (i >= total) return;
  const unsigned pixel = i / channels, c = i % channels;
  // No subscript that is a variable: it would put the parts into local memory.
  const Vector* data = parts.data[0];
  unsigned begin = 0, end = parts.end[0];
  for (int p = 1; p < 8; ++p) {
    if (c >= end) {
      data = parts.data[p];
      begin = end;
      end = parts.end[p];
    }
  }
  out[i] = data[(unsigned long long)pixel * (end - begin) + (c - begin)];
}

// `total` is photos times vectors per pixel.
template <typename T>
__device__ inline void GlobalAverage(const Vector* in, unsigned total, unsigned pixels,
                                     unsigned channels, float* out) {
  const unsigned i = THREAD_INDEX();
  if (i >= total) return;
  const Vector* vector = in + (unsigned long long)(i / channels) * pixels * channels + i % channels;
  float sums[T::kPerVector];
  for (int e = 0; e < T::kPerVector; ++e) sums[e] = 0;
  UNROLL_16
  for (unsigned p = 0; p < pixels; ++p, vector += channels) {
    Pack<T> pack;
    pack.vector = *vector;
    for (int e = 0; e < T::kPerVector; ++e) sums[e] += T::Load(pack.elements[e]);
  }
  for (int e = 0; e < T::kPerVector; ++e) {
    out[(unsigned long long)i * T::kPerVector + e] = sums[e] / (float)pixels;
  }
}

#define GLOBAL_AVERAGE(name, T)                                                      \
  extern "C" __global__ void name(const Vector* in, unsigned total, unsigned pixels, \
                                  unsigned channels, float* out) {                   \
    GlobalAverage<T>(in, total, pixels, channels, out);                              \
  }
GLOBAL_AVERAGE(global_average_fp16, Fp16)
GLOBAL_AVERAGE(global_average_bf16, Bf16)
GLOBAL_AVERAGE(global_average_fp32, Fp32)

// ---- From logits to the answer

constexpr unsigned kTopKThreads = 256;  // blockDim.x of top_k

// Orders logits: larger first, then lower index; what is not finite comes last. Never 0. The upper
// half is 0 for what is not finite, else the float with its bits turned so that they compare as
// integers do.
__device__ inline unsigned long long RankOf(float logit, unsigned index) {
  unsigned bits = FloatBits(logit);
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    bits = 0;
  } else if (bits != 0x80000000u) {  // -0 has the rank of 0
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
  }
  return (unsigned long long)bits << 32 | (0xffffffffu - index);
}

__device__ inline bool IsFinite(unsigned long long rank) { return rank >> 32 != 0; }

__device__ inline unsigned IndexOf(unsigned long long rank) { return 0xffffffffu - (unsigned)rank; }

// The highest rank below `limit` among the logits of thread t; 0 where there is none.
__device__ inline unsigned long long BestBelow(unsigned long long limit, const float* logits,
                                               unsigned classes, unsigned t) {
  unsigned long long best = 0;
  for (unsigned i = t; i < classes; i += kTopKThreads) {
    const unsigned long long rank = RankOf(logits[i], i);
    if (rank < limit && rank > best) best = rank;
  }
  return best;
}

// A block for each photo. Writes k places; those beyond `classes` get -1 and 0. Threads agree in
// two steps of 16, which takes fewer meetings than a tree of halves.
extern "C" __global__ void top_k(const float* all_logits, unsigned classes, unsigned k,
                                 int* indices, float* probabilities) {
  constexpr unsigned kGroups = 16;
  __shared__ unsigned long long best[kTopKThreads];  // of each thread's logits, not yet taken
  __shared__ unsigned long long best_of_group[kGroups];
  __shared__ double sums[kTopKThreads];
  __shared__ double sum_of_group[kGroups];
  const float* logits = all_logits + (unsigned long long)blockIdx.x * classes;
  FOR_THREADS(t) { best[t] = BestBelow(~0ull, logits, classes, t); }
  SYNC();
  double largest = 0, sum = 0;
  for (unsigned place = 0; place < k; ++place) {
    FOR_THREADS(t) {
      if (t < kGroups) {
        unsigned long long most = 0;
        for (unsigned i = t; i < kTopKThreads; i += kGroups) {
          if (best[i] > most) most = best[i];
        }
        best_of_group[t] = most;
      }
    }
    SYNC();
    unsigned long long winner = 0;
    for (unsigned g = 0; g < kGroups; ++g) {
      if (best_of_group[g] > winner) winner = best_of_group[g];
    }
    if (place == 0) {
      if (IsFinite(winner)) largest = logits[IndexOf(winner)];
      FOR_THREADS(t) {
        double part = 0;
        for (unsigned i = t; i < classes; i += kTopKThreads) {
          if (IsFinite(RankOf(logits[i], i))) part += exp(logits[i] - largest);
        }
        sums[t] = part;
      }
      SYNC();
      FOR_THREADS(t) {
        if (t < kGroups) {
          double part = 0;
          for (unsigned i = t; i < kTopKThreads; i += kGroups) part += sums[i];
          sum_of_group[t] = part;
        }
      }
      SYNC();
      for (unsigned g = 0; g < kGroups; ++g) sum += sum_of_group[g];
    }
    FOR_THREADS(t) {
      if (t == 0) {
        const unsigned long long to = (unsigned long long)blockIdx.x * k + place;
        indices[to] = winner != 0 ? (int)IndexOf(winner) : -1;
        probabilities[to] =
            IsFinite(winner) ? (float)(exp(logits[IndexOf(winner)] - largest) / sum) : 0;
      }
      if (winner != 0 && t == IndexOf(winner) % kTopKThreads) {
        best[t] = BestBelow(winner, logits, classes, t);
      }
    }
    SYNC();
  }
}

// ---- Resizing, equal to Pillow's in every bit: integer weights in units of 2^-22, and 8 bits
// between the two passes (see model/resample.h)

// A photo of which pixel (y, x) begins at `origin` + y * row + x * column: whichever way it is
// turned. Steps are in bytes and may be negative.
struct PhotoView {
  const unsigned char* origin;
  long long row;
  long long column;
};

// Along one axis: result i is made of inputs first[i] .. first[i] + count[i] - 1, and weight t of
// it is weights[t * size + i].
struct Taps {
  const int* first;
  const int* count;
  const int* weights;
  unsigned size;
};

__device__ inline unsigned char ToPixel(int sum) {
  sum >>= 22;
  return (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

// Each row of the photo to taps.size pixels. Rows of the result lie `stride` bytes apart.
extern "C" __global__ void resize_rows(PhotoView photo, unsigned rows, Taps taps,
                                       unsigned char* out, unsigned long long stride) {
  const unsigned i = THREAD_INDEX();
  if (i >= rows * taps.size) return;
  const unsigned y = i / taps.size, x = i % taps.size;
  const unsigned char* pixel = photo.origin + y * photo.row + taps.first[x] * photo.column;
  int red = 1 << 21, green = 1 << 21, blue = 1 << 21;
  const int count = taps.count[x];
  for (int t = 0; t < count; ++t, pixel += photo.column) {
    const int weight = taps.weights[(unsigned long long)t * taps.size + x];
    red += pixel[0] * weight;
    green += pixel[1] * weight;
    blue += pixel[2] * weight;
  }
  unsigned char* to = out + y * stride + x * 3ull;
  to[0] = ToPixel(red);
  to[1] = ToPixel(green);
  to[2] = ToPixel(blue);
}

// Each column of the photo, `columns` pixels wide, to taps.size pixels.
extern "C" __global__ void resize_columns(PhotoView photo, unsigned columns, Taps taps,
                                          unsigned char* out, unsigned long long stride) {
  const unsigned i = THREAD_INDEX();
  const unsigned bytes = columns * 3;
  if (i >= bytes * taps.size) return;
  const unsigned y = i / bytes, byte = i % bytes;
  const unsigned char* value =
      photo.origin + taps.first[y] * photo.row + (byte / 3) * photo.column + byte % 3;
  int sum = 1 << 21;
  const int count = taps.count[y];
  for (int t = 0; t < count; ++t, value += photo.row) {
    sum += *value * taps.weights[(unsigned long long)t * taps.size + y];
  }
  out[y * stride + byte] = ToPixel(sum);
}

// One colour all over.
extern "C" __global__ void fill_pixels(unsigned pixels, unsigned rgb, unsigned char* out) {
  const unsigned i = THREAD_INDEX();
  if (i >= pixels) return;
  for (int c = 0; c < 3; ++c) out[i * 3ull + c] = (unsigned char)(rgb >> (8 * c));
}
