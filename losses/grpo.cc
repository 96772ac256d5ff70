// "grpo": token-level clipped ratio, every row weighs the same, then its tokens (Group Relative
// Policy Optimization).
//   J = (1/B) sum_i (1/|y_i|) sum_t max(-r A, -clip(r, 0.8, 1.2) A) w  [+ kl_coef k3]
// Source: 2402.03300 eq. 3-4; per-token guards (log ratio +-20, correction cap 5) as in the
// Fireworks cookbook. Checked by tests/losses/loss_oracle_test.cc, preset rft.grpo.
#include "losses/policy_loss.h"

namespace rft {
namespace {

class GrpoLoss : public Loss {
 public:
  LossConfig DefaultConfig() const override {
    LossConfig config;
    config.name = "grpo";
    config.log_ratio_cap = 20.0;
    config.correction = ImportanceCorrection{};
    return config;
  }
  LossOutput forward(const LossInput& input, const LossConfig& config) const override {
    return ClippedPolicyLoss(RatioLevel::kToken, input, config);
  }
};

RFT_REGISTER_LOSS("grpo", GrpoLoss);

}  // namespace
}  // namespace rft
