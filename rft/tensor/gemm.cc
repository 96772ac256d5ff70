#include "rft/tensor/gemm.h"

#include <algorithm>

#include "rft/tensor/cost_timer.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

// Work is a grid of (row chunk, panel group) tasks. A chunk of rows stays in the L2 cache while panels stream by.
constexpr int64_t kChunkBytes =
    112 * 1024;  // measured: 64 .. 128 KiB within 3 %, 192 and more 10 to 25 % slower
constexpr int64_t kWholeBatch = 128;  // rows
// The last panels of a whole batch are cut into parts of rows, so that no thread waits long for another's.
constexpr int64_t kTailPanels = 2, kPartRows = 16;
constexpr int64_t kMinWork = 2 << 20;  // multiply-adds below which a second thread doesn't pay

template <typename Body>  // body(row_begin, row_end, panel)
void ForTasks(int64_t m, int64_t k, int64_t n, int64_t element_bytes, const Body& body) {
  const CostTimer timer(Cost::kMatmul);
  const int64_t panels = RoundUp(n, kPanelWidth) / kPanelWidth;
  // A decode batch stays whole: its weights come from memory, and every chunk would stream them again.
  const int64_t cached = kChunkBytes / std::max<int64_t>(1, k * element_bytes) / 8 * 8;
  const int64_t chunk = m <= kWholeBatch ? std::max<int64_t>(m, 1) : std::max<int64_t>(32, cached);
  const int64_t chunks = (m + chunk - 1) / chunk;
  const int64_t work = m * k * n;
  if (work < kMinWork || NumThreads() == 1) {
    for (int64_t c = 0; c < chunks; ++c)
      for (int64_t p = 0; p < panels; ++p) body(c * chunk, std::min(m, (c + 1) * chunk), p);
    return;
  }
  if (chunks == 1 && m > kPartRows && panels > kTailPanels) {
    const int64_t whole = panels - kTailPanels, parts = (m + kPartRows - 1) / kPartRows;
    ParallelFor(whole + kTailPanels * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        if (t < whole) {
          body(0, m, t);
          continue;
        }
        const int64_t part = (t - whole) % parts;
        body(part * kPartRows, std::min(m, (part + 1) * kPartRows), whole + (t - whole) / parts);
      }
    });
    return;
  }
  ParallelFor(chunks * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t c = t / panels;
      body(c * chunk, std::min(m, (c + 1) * chunk), t % panels);
    }
  });
}

template <typename S, typename T, typename PackFn>
void PackAll(PackSource<S> source, int64_t k, int64_t n, T* packed, PackFn pack) {
  const int64_t panels = RoundUp(n, kPanelWidth) / kPanelWidth;
  ParallelFor(panels, GrainFor(k * kPanelWidth), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t n0 = p * kPanelWidth;
      pack(source.data + n0 * source.stride_n, source.stride_k, source.stride_n, k,
           std::min<int64_t>(kPanelWidth, n - n0), packed + p * PanelElements<T>(k));
    }
  });
}

}  // namespace

template <typename T>
void Pack(PackSource<float> source, int64_t k, int64_t n, T* packed) {
  PackAll(source, k, n, packed, GetKernels().typed<T>().pack_panel_from_float);
}
template void Pack<float>(PackSource<float>, int64_t, int64_t, float*);
template void Pack<Bf16>(PackSource<float>, int64_t, int64_t, Bf16*);

void Pack(PackSource<Bf16> source, int64_t k, int64_t n, Bf16* packed) {
  PackAll(source, k, n, packed, GetKernels().bf16.pack_panel);
}

template <typename T>
void GemmToFloat(const T* a, int64_t lda, const T* packed, int64_t m, int64_t k, int64_t n,
                 float* c, int64_t ldc, bool add, const float* start) {
  const auto kernel = GetKernels().typed<T>().gemm_panel_float;
  ForTasks(m, k, n, sizeof(T), [&](int64_t r0, int64_t r1, int64_t p) {
    const int64_t n0 = p * kPanelWidth;
    if (start != nullptr)
      for (int64_t r = r0; r < r1; ++r)
        std::copy_n(start + r * ldc + n0, std::min<int64_t>(kPanelWidth, n - n0), c + r * ldc + n0);
    kernel(a + r0 * lda, lda, packed + p * PanelElements<T>(k), k, r1 - r0,
           std::min<int64_t>(kPanelWidth, n - n0), c + r0 * ldc + n0, ldc, add);
  });
}
template void GemmToFloat<float>(const float*, int64_t, const float*, int64_t, int64_t, int64_t,
                                 float*, int64_t, bool, const float*);
template void GemmToFloat<Bf16>(const Bf16*, int64_t, const Bf16*, int64_t, int64_t, int64_t,
                                float*, int64_t, bool, const float*);

template <typename T>
void Gemm(const T* a, int64_t lda, const T* packed, int64_t m, int64_t k, int64_t n, T* c,
          int64_t ldc) {
  const auto kernel = GetKernels().typed<T>().gemm_panel;
  ForTasks(m, k, n, sizeof(T), [&](int64_t r0, int64_t r1, int64_t p) {
    const int64_t n0 = p * kPanelWidth;
    kernel(a + r0 * lda, lda, packed + p * PanelElements<T>(k), k, r1 - r0,
           std::min<int64_t>(kPanelWidth, n - n0), c + r0 * ldc + n0, ldc);
  });
}
template void Gemm<float>(const float*, int64_t, const float*, int64_t, int64_t, int64_t, float*,
                          int64_t);
template void Gemm<Bf16>(const Bf16*, int64_t, const Bf16*, int64_t, int64_t, int64_t, Bf16*,
                         int64_t);

namespace {

template <typename C, typename Kernel>
void GemmInt8(const Bf16* a, int64_t lda, Int8Panels packed, int64_t m, int64_t k, int64_t n, C* c,
              int64_t ldc, bool add, Kernel kernel) {
  ForTasks(m, k, n, sizeof(Bf16), [&](int64_t r0, int64_t r1, int64_t p) {
    const int64_t n0 = p * kPanelWidth;
    const Int8Panels panel = packed.Panel(p, k);
    kernel(a + r0 * lda, lda, panel.values, panel.scales, k, r1 - r0,
           std::min<int64_t>(kPanelWidth, n - n0), c + r0 * ldc + n0, ldc, add);
  });
}

}  // namespace

void GemmToFloat(const Bf16* a, int64_t lda, Int8Panels packed, int64_t m, int64_t k, int64_t n,
                 float* c, int64_t ldc, bool add) {
  GemmInt8(a, lda, packed, m, k, n, c, ldc, add, GetKernels().gemm_panel_int8_float);
}

void Gemm(const Bf16* a, int64_t lda, Int8Panels packed, int64_t m, int64_t k, int64_t n, Bf16* c,
          int64_t ldc) {
  GemmInt8(a, lda, packed, m, k, n, c, ldc, false, GetKernels().gemm_panel_int8);
}

}  // namespace rft
