#include "rft/tensor/linear_backward.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/parallel.h"

namespace rft::ops {
namespace {

// Tokens reduced at a time: keeps a panel of x within the L2 cache.
constexpr int64_t kTokenBlock = 2048;
// Columns of dy turned at a time: they meet x while they are in the L2 cache.
constexpr int64_t kStrip = 64, kNarrowStrip = 16, kStripsPerThread = 4;

// Rows that are asked of memory before they are copied: which one is next, the CPU can't foresee.
constexpr int64_t kRowsAhead = 16;

// `count` rows from `first` on, `columns` columns of each.
template <typename T>
struct Piece {
  const T* data;
  int64_t stride;
};

// Copied together into `copies` if an index has scattered them.
template <typename T>
Piece<T> PieceOf(const TokenRows& rows, int64_t first, int64_t count, int64_t column,
                 int64_t columns, std::vector<T>& copies) {
  const int64_t stride = rows.matrix.stride(0);
  const T* from = Data<T>(rows.matrix) + column;
  if (rows.index == nullptr) return {from + first * stride, stride};
  copies.clear();
  copies.reserve(count * columns);
  for (int64_t i = first; i < first + count; ++i) {
    const T* row = from + rows.index[i] * stride;
    if (i + kRowsAhead < first + count)
      for (int64_t c = 0; c < columns; c += 64 / static_cast<int64_t>(sizeof(T)))
        __builtin_prefetch(from + rows.index[i + kRowsAhead] * stride + c, 0, 3);
    copies.insert(copies.end(), row, row + columns);
  }
  return {copies.data(), columns};
}

// Rows [first, first + count) of x as panels.
template <typename T>
void PackTokens(const TokenRows& x, int64_t first, int64_t count, T* packed) {
  const int64_t k = x.matrix.size(1);
  ParallelFor(RoundUp(k, kPanelWidth) / kPanelWidth, GrainFor(count * kPanelWidth),
              [&](int64_t begin, int64_t end) {
                std::vector<T> copies;
                for (int64_t p = begin; p < end; ++p) {
                  const int64_t c = p * kPanelWidth, n = std::min<int64_t>(kPanelWidth, k - c);
                  const Piece<T> piece = PieceOf<T>(x, first, count, c, n, copies);
                  GetKernels().typed<T>().pack_panel(piece.data, piece.stride, 1, count, n,
                                                     packed + p * PanelElements<T>(count));
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
void AddProduct(const TokenRows& dy, const TokenRows& x,
                const std::vector<GradientOfColumns>& grads) {
  constexpr int64_t kPair = sizeof(T) == 2 ? 2 : 1;
  const int64_t tokens = x.count, n = dy.matrix.size(1), k = x.matrix.size(1);
  const int64_t block = std::min(tokens, kTokenBlock);
  const int64_t strip =
      std::clamp(RoundUp(n / (kStripsPerThread * NumThreads()), 16), kNarrowStrip, kStrip);
  at::Tensor packed = at::empty({PackedElements<T>(block, k)}, x.matrix.options());
  for (int64_t t0 = 0; t0 < tokens; t0 += block) {
    const int64_t count = std::min(block, tokens - t0), padded = RoundUp(count, kPair);
    PackTokens(x, t0, count, Data<T>(packed));
    ParallelFor((n + strip - 1) / strip, GrainFor(strip * count * k),
                [&](int64_t begin, int64_t end) {
                  std::vector<T> copies, turned(strip * padded, FromFloat<T>(0.0f));
                  for (int64_t c = begin * strip; c < std::min(n, end * strip); c += strip) {
                    const int64_t columns = std::min(strip, n - c);
                    const Piece<T> piece = PieceOf<T>(dy, t0, count, c, columns, copies);
                    GetKernels().typed<T>().transpose(piece.data, count, columns, piece.stride,
                                                      turned.data(), padded);
                    AddRows(grads, c, columns, turned.data(), padded, Data<T>(packed), k);
                  }
                });
  }
}

}  // namespace

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
template void PackTransposedPanel<float>(const Weight&, int64_t, float*);
template void PackTransposedPanel<Bf16>(const Weight&, int64_t, Bf16*);

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

void AddTransposedProduct(const TokenRows& dy, const TokenRows& x,
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

void AccumulateWeightGradient(const TokenRows& x, const TokenRows& dy, const Weight& w) {
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
