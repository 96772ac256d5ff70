#include "rft/tensor/weight.h"

#include <algorithm>
#include <vector>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"

namespace rft {

Weight Weight::Create(std::vector<Parameter*> parts, at::ScalarType dtype) {
  Weight w;
  TORCH_CHECK(!parts.empty(), "a weight needs at least one parameter");
  w.k = parts[0]->value.size(1);
  for (const Parameter* p : parts) {
    TORCH_CHECK(p->value.dim() == 2 && p->value.size(1) == w.k, p->name, ": expected [*, ", w.k,
                "], got ", p->value.sizes());
    w.n += p->value.size(0);
  }
  TORCH_CHECK(dtype == at::kFloat || w.k % 2 == 0, parts[0]->name,
              ": bf16 needs an even number of inputs, got ", w.k);
  w.parts = std::move(parts);
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    w.packed = LargeTensor(PackedElements<T>(w.k, w.n), dtype);
  });
  w.Repack();
  return w;
}

void Weight::Repack(const ValueUpdate& update) {
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

}  // namespace rft
