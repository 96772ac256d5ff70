// Adds up a loss's metrics over micro-batches: sums and denominators first, one division at the end.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"
#include "losses/loss_totals.h"
#include "rft/api/datum.h"

namespace rft {

class StepMetrics {
 public:
  void Add(const LossOutput& output, const at::Tensor& entropy_N);
  // Fills loss_sum, num_tokens, num_rows, finite and metrics (token means; "entropy" in nats; maxima and minima as named) of
  // the step's `datums`.
  void Finish(absl::Span<const Datum> datums, ForwardBackwardResult& result) const;

 private:
  LossTotals totals_;
  double loss_sum_ = 0.0, entropy_ = 0.0, entropy_tokens_ = 0.0;
};

}  // namespace rft
