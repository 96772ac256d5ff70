// y[M, N] = a[M, K] b[K, N] with b packed into panels, split over threads. Torch-free.
// Batch-invariant: a row of y has the same bits for every M and every thread count.
#pragma once

#include <cstdint>

#include "rft/tensor/kernels.h"

namespace rft {

// Where the columns of a packed matrix come from: element (k, n) = data[k * stride_k + n * stride_n].
template <typename S>
struct PackSource {
  const S* data;
  int64_t stride_k, stride_n;
};
// A weight stored [N, K], as linear layers store it.
template <typename S>
PackSource<S> WeightSource(const S* w, int64_t k) {
  return {w, 1, k};
}
// A matrix stored [K, N].
template <typename S>
PackSource<S> RowsSource(const S* b, int64_t n) {
  return {b, n, 1};
}

template <typename T>
int64_t PackedElements(int64_t k, int64_t n) {
  return RoundUp(n, kPanelWidth) / kPanelWidth * PanelElements<T>(k);
}

// Fills packed[PackedElements<T>(k, n)].
template <typename T>
void Pack(PackSource<float> source, int64_t k, int64_t n, T* packed);
void Pack(PackSource<Bf16> source, int64_t k, int64_t n, Bf16* packed);

// c (+)= a * packed; float output. With add and `start` (rows as far apart as those of c): c = start + a * packed.
template <typename T>
void GemmToFloat(const T* a, int64_t lda, const T* packed, int64_t m, int64_t k, int64_t n,
                 float* c, int64_t ldc, bool add, const float* start = nullptr);
// c = a * packed, rounded to T.
template <typename T>
void Gemm(const T* a, int64_t lda, const T* packed, int64_t m, int64_t k, int64_t n, T* c,
          int64_t ldc);

// The same with int8 weights, packed by quantize.h.
struct Int8Panels {
  const int8_t* values;  // as many as of bf16
  const float* scales;   // by column, ceil(n / 48) * 48
  Int8Panels Panel(int64_t p, int64_t k) const {
    return {values + p * PanelElements<Bf16>(k), scales + p * kPanelWidth};
  }
};
void GemmToFloat(const Bf16* a, int64_t lda, Int8Panels packed, int64_t m, int64_t k, int64_t n,
                 float* c, int64_t ldc, bool add);
void Gemm(const Bf16* a, int64_t lda, Int8Panels packed, int64_t m, int64_t k, int64_t n, Bf16* c,
          int64_t ldc);

}  // namespace rft
