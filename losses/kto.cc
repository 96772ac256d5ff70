// KTO (2402.01306, eq. 8): w_d (1 - sigmoid(r - beta z0)) for a desirable, w_u (1 - sigmoid(beta z0 - r)) for an undesirable
// completion, r = beta (log ratio against the reference). z0 = config.kl, a constant of the batch: the mean log ratio of
// completions under other prompts of the batch (mismatched pairs), at least 0.
#include <ATen/TensorOperators.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include "losses/preference_loss.h"

namespace rft {
namespace {

class KtoLoss : public PreferenceLoss {
 public:
  PreferenceConfig DefaultConfig() const override { return {.name = "kto", .beta = 0.1}; }
  bool needs_reference() const override { return true; }
  bool is_paired() const override { return false; }
  PreferenceOutput forward(const PreferenceInput& in, const PreferenceConfig& c) const override {
    TORCH_CHECK(in.desirable_R.defined(), "kto: needs a label per completion");
    const at::Tensor rewards_R = (in.logps_R - in.ref_logps_R) * c.beta;
    const at::Tensor gain_R = rewards_R - c.beta * c.kl, good_R = in.desirable_R.gt(0.5);
    const at::Tensor losses_R = at::where(good_R, (1.0 - at::sigmoid(gain_R)) * c.desirable_weight,
                                          (1.0 - at::sigmoid(-gain_R)) * c.undesirable_weight);
    PreferenceOutput output;
    output.sum = losses_R.sum();
    output.denominator = static_cast<double>(losses_R.numel());
    const at::Tensor gain = gain_R.detach();
    output.metric_sums["accuracy"] =
        at::where(good_R, gain.gt(0.0), gain.lt(0.0)).sum().item<double>();
    output.metric_sums["reward"] = rewards_R.detach().sum().item<double>();
    return output;
  }
};

RFT_REGISTER_PREFERENCE_LOSS("kto", KtoLoss);

}  // namespace
}  // namespace rft
