// "gspo-token": one ratio per row (geometric mean over its active tokens), advantages and gradients
// per token.
//   s_it = sg(s_i) pi(y_t) / sg(pi(y_t)),   s_i = exp((1/|y_i|) sum_t m log(pi / pi_old))
//   J = (1/B) sum_i (1/|y_i|) sum_t max(-s_it A_t, -clip(s_it, 1 - 3e-4, 1 + 4e-4) A_t) w
// With one advantage and one correction weight per row it equals GSPO in value and gradient. Row
// ratios move little: the bounds are narrow.
// Source: 2507.18071 eq. 5-7 and 13-14, log ratio capped at +10 as verl and the Fireworks cookbook
// do. Checked by tests/losses/loss_oracle_test.cc, presets rft.gspo-token, verl.gspo and trl.gspo.
#include "losses/policy_loss.h"

namespace rft {
namespace {

class GspoTokenLoss : public Loss {
 public:
  LossConfig DefaultConfig() const override {
    LossConfig config;
    config.name = "gspo-token";
    config.clip_low = 3e-4;
    config.clip_high = 4e-4;
    config.log_ratio_cap_max = 10.0;
    config.correction = ImportanceCorrection{};
    return config;
  }
  LossOutput forward(const LossInput& input, const LossConfig& config) const override {
    return ClippedPolicyLoss(RatioLevel::kSequenceToken, input, config);
  }
};

RFT_REGISTER_LOSS("gspo-token", GspoTokenLoss);

}  // namespace
}  // namespace rft
