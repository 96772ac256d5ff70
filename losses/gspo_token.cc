// "gspo-token": one ratio per row (geometric mean over its active tokens), advantages and gradients
// per token.
//   s_it = sg(s_i) pi(y_t) / sg(pi(y_t)),   s_i = exp((1/|y_i|) sum_t m log(pi / pi_old))
//   J = (1/B) sum_i (1/|y_i|) sum_t max(-s_it A_t, -clip(s_it, 1 - 3e-4, 1 + 4e-4) A_t) w
// With one advantage and one correction weight per row it equals GSPO in value and gradient. Row
// ratios move little: the bounds are narrow.
// Source: 2507.18071 eq. 5-7 and 13-14, log ratio capped at +10 as verl and the Fireworks cookbook
// do. Checked by tests/losses/loss_oracle_test.cc, presets rft.gspo-token, verl.gspo.
#include "losses/clip.h"

namespace rft {
namespace {

void GspoTokenDefaults(LossConfig& config) {
  RowRatioDefaults(RatioLevel::kSequenceToken, config);
  config.correction = ImportanceCorrection{};
}

RFT_REGISTER_POLICY_LOSS("gspo-token", GspoToken, &ClipSurrogate, &GspoTokenDefaults);

}  // namespace
}  // namespace rft
