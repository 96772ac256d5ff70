// "ppo": the clipped surrogate alone, averaged over tokens, no correction.
//   J = (1/N) sum_i sum_t max(-r A, -clip(r, 0.8, 1.2) A)
// Source: 1707.06347 eq. 7. Checked by tests/losses/loss_oracle_test.cc, presets trl.bnpo, tinker.ppo.
#include "losses/clip.h"

namespace rft {
namespace {

void PpoDefaults(LossConfig& config) {
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kTokenMean;
}

RFT_REGISTER_POLICY_LOSS("ppo", Ppo, &ClipSurrogate, &PpoDefaults);

}  // namespace
}  // namespace rft
