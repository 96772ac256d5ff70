#include "rft/tensor/expert_adapters.h"

#include <algorithm>

#include <ATen/ops/zeros.h>

#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"

namespace rft::ops {

PairAdapters::PairAdapters(const std::vector<ExpertAdapter>& adapters, const Grouping& grouping)
    : grouping_(grouping) {
  const int32_t* token = Data<int32_t>(grouping.token_P);
  dropouts_.reserve(adapters.size());  // parts point into it
  for (const ExpertAdapter& adapter : adapters) {
    const LowRankDropout* dropout = nullptr;
    if (adapter.dropout != nullptr && adapter.dropout->p > 0.0) {
      dropouts_.push_back({adapter.dropout->p, adapter.dropout->seed,
                           adapter.dropout->keys_T.index_select(0, grouping.token_P)});
      dropout = &dropouts_.back();
    }
    for (int64_t e = 0; e < grouping.num_experts(); ++e) {
      const int32_t *from = token + grouping.begin(e), *to = from + grouping.count(e);
      const int32_t* first = std::lower_bound(from, to, adapter.begin);
      const int32_t* last =
          adapter.count < 0 ? to : std::lower_bound(first, to, adapter.begin + adapter.count);
      if (first == last) continue;
      const int64_t begin = first - token, count = last - first;
      if (const LowRank* w = adapter.experts->gate_up[e])
        gate_up_.push_back({{w, begin, count}, dropout});
      if (const LowRank* w = adapter.experts->down[e])
        down_.push_back({{w, begin, count}, dropout});
    }
  }
}

void PairAdapters::Forward(const std::vector<Part>& parts, const at::Tensor& x,
                           const at::Tensor& y) const {
  for (const Part& p : parts) LowRankForward(y, x, p.rows, p.dropout);
}

void PairAdapters::Backward(const std::vector<Part>& parts, const at::Tensor& x,
                            const at::Tensor& dy, const at::Tensor& dx) const {
  for (const Part& p : parts)
    dx.narrow(0, p.rows.begin, p.rows.count)
        .add_(LowRankBackward(dy, at::Tensor(), x, p.rows, p.dropout));
}

void PairAdapters::GateUp(const at::Tensor& rows_PH, const at::Tensor& gate_up_P2I) const {
  Forward(gate_up_, rows_PH, gate_up_P2I);
}

at::Tensor PairAdapters::Down(const at::Tensor& activation_PI) const {
  if (down_.empty()) return at::Tensor();
  at::Tensor delta = at::zeros({activation_PI.size(0), down_[0].rows.adapter->parts[0].n},
                               activation_PI.options().dtype(at::kFloat));
  Forward(down_, activation_PI, delta);
  return delta;
}

void PairAdapters::GateUpBackward(const at::Tensor& rows_PH, const at::Tensor& dgate_up_P2I,
                                  const at::Tensor& dx_PH) const {
  Backward(gate_up_, rows_PH, dgate_up_P2I, dx_PH);
}

void PairAdapters::DownBackward(const at::Tensor& activation_PI, const at::Tensor& dy_PH,
                                const at::Tensor& dactivation_PI) const {
  Backward(down_, activation_PI, dy_PH, dactivation_PI);
}

}  // namespace rft::ops
