// "cross-entropy": supervised fine-tuning, -sum_t w_t log pi(y_t).
//
// mask_T holds the weights w_t: any finite number >= 0; a token is active where its weight is > 0.
// The denominator counts active tokens, not weights, so halving every weight halves the loss. Reads
// logprobs_T, mask_T and row_offsets_R1 only; of the config, only the aggregation. A negative or
// non-finite weight is a c10::Error. Checked by tests/losses/cross_entropy_test.cc.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include "losses/aggregate.h"
#include "losses/loss.h"
#include "losses/metrics.h"
#include "losses/packed_rows.h"
#include "losses/validate.h"

namespace rft {
namespace {

void CheckWeights(const at::Tensor& weights_T) {
  at::NoGradGuard no_grad;
  const bool good = (weights_T >= 0).logical_and(weights_T.isfinite()).all().item<bool>();
  TORCH_CHECK(good, "mask_T: cross-entropy weights must be finite and at least 0");
}

class CrossEntropyLoss : public Loss {
 public:
  LossConfig DefaultConfig() const override {
    LossConfig config;
    config.name = "cross-entropy";
    config.aggregation = Aggregation::kTokenMean;
    return config;
  }

  LossOutput forward(const LossInput& input, const LossConfig& config) const override {
    CheckLossConfig(config);
    CheckCommonInput(input);
    CheckWeights(input.mask_T);
    const PackedRows rows(input.mask_T, input.row_offsets_R1);
    const at::Tensor nll_T = -rows.ZeroInactive(input.logprobs_T);
    MetricCollector metrics(rows);
    metrics.AddSum("nll", nll_T);
    metrics.AddMax("nll_max", nll_T);
    metrics.AddSum("weight_mean", input.mask_T);
    LossOutput output;
    output.sum = AggregateSum(nll_T * input.mask_T.detach(), rows, config);
    metrics.Finish(config, &output);
    return output;
  }
};

RFT_REGISTER_LOSS("cross-entropy", CrossEntropyLoss);

}  // namespace
}  // namespace rft
