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

}  // namespace

at::Tensor PackTransposed(const Weight& w, at::ScalarType dtype) {
  at::Tensor packed;
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    packed = at::empty({PackedElements<T>(w.n, w.k)}, w.packed.options().dtype(dtype));
    const auto pack = GetKernels().typed<T>().pack_panel_from_float;
    const int64_t panels = RoundUp(w.k, kPanelWidth) / kPanelWidth;
    bool odd = false;  // bf16 keeps pairs of rows together: a part of odd length shifts the next
    for (const Parameter* part : w.parts) odd = odd || part->value.size(0) % 2 != 0;
    ParallelFor(panels, GrainFor(w.n * kPanelWidth), [&](int64_t begin, int64_t end) {
      std::vector<float> stacked;
      for (int64_t p = begin; p < end; ++p) {
        const int64_t c0 = p * kPanelWidth, columns = std::min<int64_t>(kPanelWidth, w.k - c0);
        T* out = Data<T>(packed) + p * PanelElements<T>(w.n);
        if (sizeof(T) == 2 && odd) {
          stacked.clear();
          for (const Parameter* part : w.parts)
            for (int64_t r = 0; r < part->value.size(0); ++r) {
              const float* row = Data<float>(part->value) + r * w.k + c0;
              stacked.insert(stacked.end(), row, row + columns);
            }
          pack(stacked.data(), columns, 1, w.n, columns, out);
          continue;
        }
        for (const Parameter* part : w.parts) {  // parts follow one another along the reduction
          const int64_t rows = part->value.size(0);
          pack(Data<float>(part->value) + c0, w.k, 1, rows, columns, out);
          out += rows * kPanelWidth;
        }
      }
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

void AddTransposedProduct(const at::Tensor& dy, const at::Tensor& x,
                          const std::vector<GradientOfColumns>& grads) {
  if (std::none_of(grads.begin(), grads.end(),
                   [](const GradientOfColumns& g) { return g.grad.defined(); }))
    return;  // a frozen base
  DispatchFloat(x.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto& kernels = GetKernels().typed<T>();
    const int64_t tokens = x.size(0), k = x.size(1), ld_x = x.stride(0);
    const int64_t n = dy.size(1), ld_dy = dy.stride(0);
    const int64_t block = std::min(tokens, kTokenBlock), padded = RoundUp(block, 2);
    at::Tensor dy_t = at::empty({n, padded}, dy.options());
    at::Tensor x_packed = at::empty({PackedElements<T>(block, k)}, x.options());
    for (int64_t t0 = 0; t0 < tokens; t0 += block) {
      const int64_t count = std::min(block, tokens - t0), even = RoundUp(count, 2);
      Pack(RowsSource(Data<T>(x) + t0 * ld_x, ld_x), count, k, Data<T>(x_packed));
      ParallelFor(RoundUp(n, 64) / 64, GrainFor(64 * count), [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          const int64_t n0 = b * 64, columns = std::min<int64_t>(64, n - n0);
          T* out = Data<T>(dy_t) + n0 * padded;
          kernels.transpose(Data<T>(dy) + t0 * ld_dy + n0, count, columns, ld_dy, out, padded);
          for (int64_t c = 0; even != count && c < columns; ++c)
            out[c * padded + count] = FromFloat<T>(0.0f);
        }
      });
      for (const GradientOfColumns& g : grads)
        if (g.grad.defined())
          GemmToFloat(Data<T>(dy_t) + g.first * padded, padded, Data<T>(x_packed), g.grad.size(0),
                      sizeof(T) == 2 ? even : count, k, Data<float>(g.grad), k, true);
    }
  });
}

bool NeedsWeightGradient(const Weight& w) {
  return std::any_of(w.parts.begin(), w.parts.end(),
                     [](const Parameter* p) { return p->grad.defined(); });
}

void AccumulateWeightGradient(const at::Tensor& x, const at::Tensor& dy, const Weight& w) {
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
