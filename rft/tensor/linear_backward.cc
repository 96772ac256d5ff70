#include "rft/tensor/linear_backward.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/prefetch.h"

namespace rft::ops {
namespace {

// Tokens reduced at a time: keeps a panel of x within the L2 cache.
constexpr int64_t kTokenBlock = 2048;
// Columns of dy turned at a time: they meet x while they are in the L2 cache.
constexpr int64_t kStrip = 64, kNarrowStrip = 16, kStripsPerThread = 4;

constexpr int64_t kRowsAhead = 16;  // of a panel's short rows

// `n` columns of each of the rows that `index` names, as rows of a panel's width, zero up to whole vectors.
template <typename T>
void PickRows(const T* from, int64_t stride, const int32_t* index, int64_t count, int64_t n,
              T* rows) {
  for (int64_t i = 0; i < count; ++i, rows += kPanelWidth) {
    if (i + kRowsAhead < count) PrefetchRow(from + index[i + kRowsAhead] * stride, n);
    const T* row = from + index[i] * stride;
    std::copy_n(row, n, rows);
    if (n % 16 != 0) std::fill(rows + n, rows + RoundUp(n, 16), FromFloat<T>(0.0f));
  }
}

// Rows [first, first + count) of x as panels.
template <typename T>
void PackTokens(const TokenRows& x, int64_t first, int64_t count, T* packed) {
  const int64_t k = x.matrix.size(1), stride = x.matrix.stride(0);
  const auto pack = GetKernels().typed<T>().pack_panel;
  ParallelFor(RoundUp(k, kPanelWidth) / kPanelWidth, GrainFor(count * kPanelWidth),
              [&](int64_t begin, int64_t end) {
                constexpr bool kPairs = sizeof(T) == 2;  // else a panel is its rows
                std::vector<T> picked(x.index != nullptr && kPairs ? count * kPanelWidth : 0);
                for (int64_t p = begin; p < end; ++p) {
                  const int64_t c = p * kPanelWidth, n = std::min<int64_t>(kPanelWidth, k - c);
                  const T* from = Data<T>(x.matrix) + c;
                  T* panel = packed + p * PanelElements<T>(count);
                  if (x.index == nullptr) {
                    pack(from + first * stride, stride, 1, count, n, panel);
                    continue;
                  }
                  PickRows(from, stride, x.index + first, count, n, kPairs ? picked.data() : panel);
                  if (kPairs) pack(picked.data(), kPanelWidth, 1, count, n, panel);
                }
              });
}

// The gradients' rows [first, first + rows) += turned [rows, tokens] * packed.
template <typename T>
void AddRows(const std::vector<GradientOfColumns>& grads, int64_t first, int64_t rows,
             const T* turned, int64_t tokens, const T* packed, int64_t k) {
  for (const GradientOfColumns& g : grads) {
    if (!g.grad.defined()) continue;
    const int64_t from = std::max(first, g.first),
                  to = std::min(first + rows, g.first + g.grad.size(0));
    for (int64_t c = 0; c < k && from < to; c += kPanelWidth)
      GetKernels().typed<T>().gemm_panel_float(
          turned + (from - first) * tokens, tokens,
          packed + c / kPanelWidth * PanelElements<T>(tokens), tokens, to - from,
          std::min<int64_t>(kPanelWidth, k - c), Data<float>(g.grad) + (from - g.first) * k + c, k,
          true);
  }
}

template <typename T>
void AddProduct(const at::Tensor& dy, const TokenRows& x,
                const std::vector<GradientOfColumns>& grads) {
  constexpr int64_t kPair = sizeof(T) == 2 ? 2 : 1;
  const int64_t tokens = x.count, n = dy.size(1), stride = dy.stride(0), k = x.matrix.size(1);
  const int64_t block = std::min(tokens, kTokenBlock);
  const int64_t strip =
      std::clamp(RoundUp(n / (kStripsPerThread * NumThreads()), 16), kNarrowStrip, kStrip);
  at::Tensor packed = at::empty({PackedElements<T>(block, k)}, x.matrix.options());
  for (int64_t t0 = 0; t0 < tokens; t0 += block) {
    const int64_t count = std::min(block, tokens - t0), padded = RoundUp(count, kPair);
    PackTokens(x, t0, count, Data<T>(packed));
    ParallelFor((n + strip - 1) / strip, GrainFor(strip * count * k),
                [&](int64_t begin, int64_t end) {
                  std::vector<T> turned(strip * padded, FromFloat<T>(0.0f));
                  for (int64_t c = begin * strip; c < std::min(n, end * strip); c += strip) {
                    const int64_t columns = std::min(strip, n - c);
                    GetKernels().typed<T>().transpose(Data<T>(dy) + t0 * stride + c, count, columns,
                                                      stride, turned.data(), padded);
                    AddRows(grads, c, columns, turned.data(), padded, Data<T>(packed), k);
                  }
                });
  }
}

// Panel `p` of W packed for dx = dy W.
template <typename T>
void PackTransposedPanel(const Weight& w, int64_t p, T* out) {
  const auto pack = GetKernels().typed<T>().pack_panel_from_float;
  const int64_t c0 = p * kPanelWidth, columns = std::min<int64_t>(kPanelWidth, w.k - c0);
  // Bf16 keeps pairs of rows together: a part of odd length shifts the next.
  if (sizeof(T) == 2 && std::any_of(w.parts.begin(), w.parts.end(), [](const Parameter* part) {
        return part->value.size(0) % 2 != 0;
      })) {
    std::vector<float> stacked;
    for (const Parameter* part : w.parts)
      for (int64_t r = 0; r < part->value.size(0); ++r) {
        const float* row = Data<float>(part->value) + r * w.k + c0;
        stacked.insert(stacked.end(), row, row + columns);
      }
    pack(stacked.data(), columns, 1, w.n, columns, out);
    return;
  }
  for (const Parameter* part : w.parts) {  // parts follow one another along the reduction
    const int64_t rows = part->value.size(0);
    pack(Data<float>(part->value) + c0, w.k, 1, rows, columns, out);
    out += rows * kPanelWidth;
  }
}
}  // namespace

at::Tensor PackTransposed(const Weight& w, at::ScalarType dtype) {
  at::Tensor packed;
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    packed = at::empty({PackedElements<T>(w.n, w.k)}, w.packed.options().dtype(dtype));
    const int64_t panels = RoundUp(w.k, kPanelWidth) / kPanelWidth;
    ParallelFor(panels, GrainFor(w.n * kPanelWidth), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        PackTransposedPanel(w, p, Data<T>(packed) + p * PanelElements<T>(w.n));
    });
  });
  return packed;
}

at::Tensor InputGradient(const at::Tensor& dy, const at::Tensor& packed_transposed,
                         const Weight& w) {
  at::Tensor dx = at::empty({dy.size(0), w.k}, dy.options());
  DispatchFloat(dy.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool pad = sizeof(T) == 2 && w.n % 2 != 0;  // the kernel reads pairs
    const at::Tensor a = pad ? at::constant_pad_nd(dy, {0, 1}) : dy;
    Gemm(Data<T>(a), a.size(1), Data<T>(packed_transposed), dy.size(0), a.size(1), w.k, Data<T>(dx),
         w.k);
  });
  return dx;
}

void AddTransposedProduct(const at::Tensor& dy, const TokenRows& x,
                          const std::vector<GradientOfColumns>& grads) {
  if (std::none_of(grads.begin(), grads.end(),
                   [](const GradientOfColumns& g) { return g.grad.defined(); }))
    return;  // a frozen base
  DispatchFloat(x.matrix.scalar_type(),
                [&](auto tag) { AddProduct<typename decltype(tag)::type>(dy, x, grads); });
}

bool NeedsWeightGradient(const Weight& w) {
  return std::any_of(w.parts.begin(), w.parts.end(),
                     [](const Parameter* p) { return p->grad.defined(); });
}

void AccumulateWeightGradient(const TokenRows& x, const at::Tensor& dy, const Weight& w) {
  std::vector<GradientOfColumns> grads;
  int64_t first = 0;
  for (const Parameter* part : w.parts) {
    grads.push_back({first, part->grad});
    first += part->value.size(0);
  }
  AddTransposedProduct(dy, x, grads);
}

at::Tensor LinearBackward(const at::Tensor& x, const at::Tensor& dy, const Weight& w) {
  AccumulateWeightGradient(x, dy, w);
  return InputGradient(dy, PackTransposed(w, dy.scalar_type()), w);
}

}  // namespace rft::ops
