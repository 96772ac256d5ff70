#include "rft/tensor/weight.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/quantize.h"

namespace rft {
namespace {

// Where each stacked row lives.
std::vector<const float*> StackedRows(const Weight& w) {
  std::vector<const float*> rows;
  rows.reserve(w.n);
  for (const Parameter* p : w.parts)
    for (int64_t i = 0; i < p->value.size(0); ++i) rows.push_back(Data<float>(p->value) + i * w.k);
  return rows;
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
  if (dtype == at::kChar) {
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
  if (is_int8()) {
    TORCH_CHECK(!update, parts[0]->name, ": int8 weights are never trained");
    return RepackInt8();
  }
  DispatchFloat(packed.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = Data<T>(packed);
    const auto pack = GetKernels().typed<T>().pack_panel_from_float;
    const int64_t panels = RoundUp(n, kPanelWidth) / kPanelWidth;
    ParallelFor(panels, GrainFor(k * kPanelWidth), [&](int64_t begin, int64_t end) {
      std::vector<float> straddling;
      for (int64_t p = begin; p < end; ++p) {
        const int64_t n0 = p * kPanelWidth, columns = std::min<int64_t>(kPanelWidth, n - n0);
        const float* source = nullptr;
        int64_t first = 0;  // of the part, among the stacked rows
        for (const Parameter* part : parts) {
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
        pack(source, 1, k, k, columns, out + p * PanelElements<T>(k));
      }
    });
  });
}

void Weight::RepackInt8() {
  const std::vector<const float*> row_of = StackedRows(*this);
  const int64_t panels = RoundUp(n, kPanelWidth) / kPanelWidth;
  ParallelFor(panels, GrainFor(k * kPanelWidth), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t n0 = p * kPanelWidth;
      QuantizePanel(row_of.data() + n0, k, std::min<int64_t>(kPanelWidth, n - n0),
                    Data<int8_t>(packed) + p * PanelElements<Bf16>(k), Data<float>(scales_N) + n0);
    }
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
void MultiplyToFloat(const T* a, int64_t m, const Weight& weight, float* c, bool add) {
  const int64_t k = weight.k, n = weight.n;
  if constexpr (std::is_same_v<T, Bf16>)
    if (weight.is_int8()) return GemmToFloat(a, k, Int8Of(weight), m, k, n, c, n, add);
  GemmToFloat(a, k, Data<T>(weight.packed), m, k, n, c, n, add);
}
template void MultiplyToFloat<float>(const float*, int64_t, const Weight&, float*, bool);
template void MultiplyToFloat<Bf16>(const Bf16*, int64_t, const Weight&, float*, bool);

}  // namespace rft
