// IPO (2310.12036, eq. 17): (difference of the log ratios - 1 / (2 beta))^2, ratios per token as its authors compute them.
#include <ATen/TensorOperators.h>

#include "losses/preference_loss.h"

namespace rft {
namespace {

class IpoLoss : public PreferenceLoss {
 public:
  PreferenceConfig DefaultConfig() const override { return {.name = "ipo", .beta = 0.1}; }
  bool needs_reference() const override { return true; }
  PreferenceOutput forward(const PreferenceInput& in, const PreferenceConfig& c) const override {
    const at::Tensor mean_R = (in.logps_R - in.ref_logps_R) / in.tokens_R;
    const at::Tensor distance_P = Chosen(mean_R) - Rejected(mean_R) - 1.0 / (2.0 * c.beta);
    return PairedOutput(in, c, distance_P * distance_P, mean_R * c.beta);
  }
};

RFT_REGISTER_PREFERENCE_LOSS("ipo", IpoLoss);

}  // namespace
}  // namespace rft
