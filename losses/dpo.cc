// DPO (2305.18290, eq. 7): -log sigmoid(beta (log ratio of the chosen - log ratio of the rejected)), ratios against the
// reference. label_smoothing: conservative DPO (same authors' cDPO note).
#include <ATen/TensorOperators.h>

#include "losses/preference_loss.h"

namespace rft {
namespace {

class DpoLoss : public PreferenceLoss {
 public:
  PreferenceConfig DefaultConfig() const override { return {.name = "dpo", .beta = 0.1}; }
  bool needs_reference() const override { return true; }
  PreferenceOutput forward(const PreferenceInput& in, const PreferenceConfig& c) const override {
    const at::Tensor rewards_R = (in.logps_R - in.ref_logps_R) * c.beta;
    const at::Tensor margin_P = Chosen(rewards_R) - Rejected(rewards_R);
    return PairedOutput(in, c, SmoothedLogistic(margin_P, c.label_smoothing), rewards_R);
  }
};

RFT_REGISTER_PREFERENCE_LOSS("dpo", DpoLoss);

}  // namespace
}  // namespace rft
