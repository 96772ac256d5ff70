// Low-rank adapters on the experts of one forward or backward: which pairs use which, and their parts of the four products.
// Shapes as in experts.h; P pairs in the order of the grouping. Not thread safe; lives as long as one call.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/experts.h"
#include "rft/tensor/experts_grouping.h"

namespace rft::ops {

class PairAdapters {
 public:
  // Both arguments must outlive it.
  PairAdapters(const std::vector<ExpertAdapter>& adapters, const Grouping& grouping);

  bool adapts_gate_up() const { return !gate_up_.empty(); }
  bool adapts_down() const { return !down_.empty(); }

  // y_P += the adapters' part of x_P W^T; y of x's dtype or float32.
  void GateUp(const at::Tensor& rows_PH, const at::Tensor& gate_up_P2I) const;
  // float32 [P, H]: what the adapters add to the experts' outputs, before the gate weights. 0 where there are none.
  at::Tensor Down(const at::Tensor& activation_PI) const;

  // Add to the adapters' gradients and to dx of the pairs' rows (dx_P: x's dtype). dy_P: that dtype.
  void GateUpBackward(const at::Tensor& rows_PH, const at::Tensor& dgate_up_P2I,
                      const at::Tensor& dx_PH) const;
  void DownBackward(const at::Tensor& activation_PI, const at::Tensor& dy_PH,
                    const at::Tensor& dactivation_PI) const;

 private:
  struct Part {
    LowRankRows rows;
    const LowRankDropout* dropout;
  };
  void Forward(const std::vector<Part>& parts, const at::Tensor& x, const at::Tensor& y) const;
  void Backward(const std::vector<Part>& parts, const at::Tensor& x, const at::Tensor& dy,
                const at::Tensor& dx) const;

  const Grouping& grouping_;
  std::vector<Part> gate_up_, down_;
  std::vector<LowRankDropout> dropouts_;  // keyed by pair
};

}  // namespace rft::ops
