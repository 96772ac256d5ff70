// "gspo": one ratio per row, s_i = exp((1/|y_i|) sum_t m log(pi / pi_old)), and the gradient of that
// ratio spread evenly over the row's active tokens.
//   J = (1/B) sum_i (1/|y_i|) sum_t max(-s_i A_t, -clip(s_i, 1 - 3e-4, 1 + 4e-4) A_t) w
// Source: 2507.18071 eq. 5-7. Checked by tests/losses/loss_oracle_test.cc, presets rft.gspo, trl.gspo.
#include "losses/clip.h"

namespace rft {
namespace {

void GspoDefaults(LossConfig& config) {
  RowRatioDefaults(RatioLevel::kSequence, config);
  config.correction = ImportanceCorrection{};
}

RFT_REGISTER_POLICY_LOSS("gspo", Gspo, &ClipSurrogate, &GspoDefaults);

}  // namespace
}  // namespace rft
