// "dapo": token-level clipped ratio with a higher upper bound, every active token of the step
// weighs the same, no KL.
//   J = (1/N) sum_i sum_t max(-r A, -clip(r, 0.8, 1.28) A) w
// The method's other halves live elsewhere: dynamic sampling in rollout/zero_variance_filter.h, the
// soft overlong penalty in graders/soft_overlong.h.
// Source: 2503.14476 eq. 8, 10, 12. Checked by tests/losses/loss_oracle_test.cc, preset rft.dapo.
#include "losses/policy_loss.h"

namespace rft {
namespace {

class DapoLoss : public Loss {
 public:
  LossConfig DefaultConfig() const override {
    LossConfig config;
    config.name = "dapo";
    config.clip_high = 0.28;
    config.log_ratio_cap = 20.0;
    config.aggregation = Aggregation::kTokenMean;
    config.correction = ImportanceCorrection{};
    return config;
  }
  LossOutput forward(const LossInput& input, const LossConfig& config) const override {
    return ClippedPolicyLoss(RatioLevel::kToken, input, config);
  }
};

RFT_REGISTER_LOSS("dapo", DapoLoss);

}  // namespace
}  // namespace rft
