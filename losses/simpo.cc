// SimPO (2405.14734, eq. 6): -log sigmoid(beta (mean log-probability of the chosen - of the rejected) - gamma). No reference.
#include <ATen/TensorOperators.h>

#include "losses/preference_loss.h"

namespace rft {
namespace {

class SimpoLoss : public PreferenceLoss {
 public:
  PreferenceConfig DefaultConfig() const override {
    return {.name = "simpo", .beta = 2.0, .gamma = 1.0};
  }
  bool needs_reference() const override { return false; }
  PreferenceOutput forward(const PreferenceInput& in, const PreferenceConfig& c) const override {
    const at::Tensor rewards_R = in.logps_R / in.tokens_R * c.beta;
    const at::Tensor margin_P = Chosen(rewards_R) - Rejected(rewards_R) - c.gamma;
    return PairedOutput(in, c, SmoothedLogistic(margin_P, c.label_smoothing), rewards_R);
  }
};

RFT_REGISTER_PREFERENCE_LOSS("simpo", SimpoLoss);

}  // namespace
}  // namespace rft
