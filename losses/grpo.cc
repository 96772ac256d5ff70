// "grpo": token-level clipped ratio, every row weighs the same, then its tokens (Group Relative
// Policy Optimization).
//   J = (1/B) sum_i (1/|y_i|) sum_t max(-r A, -clip(r, 0.8, 1.2) A) w  [+ kl_coef k3]
// Source: 2402.03300 eq. 3-4; per-token guards (log ratio +-20, correction cap 5) as in the
// Fireworks cookbook. Checked by tests/losses/loss_oracle_test.cc, preset rft.grpo.
#include "losses/clip.h"

namespace rft {
namespace {

void GrpoDefaults(LossConfig& config) {
  config.log_ratio_cap = 20.0;
  config.correction = ImportanceCorrection{};
}

RFT_REGISTER_POLICY_LOSS("grpo", Grpo, &ClipSurrogate, &GrpoDefaults);

}  // namespace
}  // namespace rft
