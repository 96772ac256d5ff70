#include "rft/tensor/weight.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include <ATen/ops/empty.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/quantize.h"

namespace rft {
namespace {

// Calls body(p, rows, columns) for every panel, in parallel: rows is [columns][K] of the stacked parts. `update` as in Repack.
template <typename Body>
void ForPanels(const Weight& w, const ValueUpdate& update, const Body& body) {
  const int64_t k = w.k, panels = RoundUp(w.n, kPanelWidth) / kPanelWidth;
  ParallelFor(panels, GrainFor(k * kPanelWidth), [&](int64_t begin, int64_t end) {
    std::vector<float> straddling;
    for (int64_t p = begin; p < end; ++p) {
      const int64_t n0 = p * kPanelWidth, columns = std::min<int64_t>(kPanelWidth, w.n - n0);
      const float* source = nullptr;
      int64_t first = 0;  // of the part, among the stacked rows
      for (const Parameter* part : w.parts) {
        const int64_t rows = part->value.size(0), from = std::max(n0, first),
                      to = std::min(n0 + columns, first + rows);
        if (from < to) {
          if (update) update(*part, (from - first) * k, (to - from) * k);
          const float* own = Data<float>(part->value) + (from - first) * k;
          if (to - from == columns) {
            source = own;
          } else {  // rows of two parts: gather them first
            straddling.resize(columns * k);
            std::copy_n(own, (to - from) * k, straddling.data() + (from - n0) * k);
            source = straddling.data();
          }
        }
        first += rows;
      }
      body(p, source, columns);
    }
  });
}

Int8Panels Int8Of(const Weight& w) { return {Data<int8_t>(w.packed), Data<float>(w.scales_N)}; }

}  // namespace

Weight Weight::Create(std::vector<Parameter*> parts, at::ScalarType dtype) {
  Weight w;
  TORCH_CHECK(!parts.empty(), "a weight needs at least one parameter");
  w.k = parts[0]->value.size(1);
  for (const Parameter* p : parts) {
    TORCH_CHECK(p->value.dim() == 2 && p->value.size(1) == w.k, p->name, ": expected [*, ", w.k,
                "], got ", p->value.sizes());
    w.n += p->value.size(0);
  }
  TORCH_CHECK(dtype == at::kFloat || w.k % 2 == 0, parts[0]->name, ": ",
              dtype == at::kChar ? "int8" : "bf16", " needs an even number of inputs, got ", w.k);
  w.parts = std::move(parts);
  if (const at::Device device = w.parts[0]->device(); !device.is_cpu()) {
    TORCH_CHECK(dtype != at::kChar, w.parts[0]->name, ": int8 weights are for the CPU");
    w.packed = at::empty({w.n, w.k}, at::TensorOptions(device).dtype(dtype));
  } else if (dtype == at::kChar) {
    w.packed = LargeTensor(PackedElements<Bf16>(w.k, w.n), dtype);
    w.scales_N = LargeTensor(RoundUp(w.n, kPanelWidth), at::kFloat);
  } else {
    DispatchFloat(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      w.packed = LargeTensor(PackedElements<T>(w.k, w.n), dtype);
    });
  }
  w.Repack();
  return w;
}

void Weight::Repack(const ValueUpdate& update) {
  if (!packed.is_cpu()) return ops::composite::Stack(*this, update);
  if (is_int8()) {
    TORCH_CHECK(!update, parts[0]->name, ": int8 weights are never trained");
    ForPanels(*this, {}, [&](int64_t p, const float* rows, int64_t columns) {
      QuantizePanel(rows, k, columns, Data<int8_t>(packed) + p * PanelElements<Bf16>(k),
                    Data<float>(scales_N) + p * kPanelWidth);
    });
    return;
  }
  DispatchFloat(packed.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto pack = GetKernels().typed<T>().pack_panel_from_float;
    ForPanels(*this, update, [&](int64_t p, const float* rows, int64_t columns) {
      pack(rows, 1, k, k, columns, Data<T>(packed) + p * PanelElements<T>(k));
    });
  });
}

template <typename T>
void Multiply(const T* a, int64_t m, const Weight& weight, T* c) {
  const int64_t k = weight.k, n = weight.n;
  if constexpr (std::is_same_v<T, Bf16>)
    if (weight.is_int8()) return Gemm(a, k, Int8Of(weight), m, k, n, c, n);
  Gemm(a, k, Data<T>(weight.packed), m, k, n, c, n);
}
template void Multiply<float>(const float*, int64_t, const Weight&, float*);
template void Multiply<Bf16>(const Bf16*, int64_t, const Weight&, Bf16*);

template <typename T>
void MultiplyToFloat(const T* a, int64_t m, const Weight& weight, float* c, bool add,
                     const float* start) {
  const int64_t k = weight.k, n = weight.n;
  if constexpr (std::is_same_v<T, Bf16>)
    if (weight.is_int8()) return GemmToFloat(a, k, Int8Of(weight), m, k, n, c, n, add);
  GemmToFloat(a, k, Data<T>(weight.packed), m, k, n, c, n, add, start);
}
template void MultiplyToFloat<float>(const float*, int64_t, const Weight&, float*, bool,
                                     const float*);
template void MultiplyToFloat<Bf16>(const Bf16*, int64_t, const Weight&, float*, bool,
                                    const float*);

}  // namespace rft
