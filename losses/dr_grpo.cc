// "dr-grpo": grpo without its length bias: the tokens of a row are summed and divided by a constant.
//   J = (1/B) sum_i (1/agg_norm) sum_t max(-r A, -clip(r, 0.8, 1.2) A) w
// agg_norm is the largest completion length; use it with advantage kind dr-grpo (no division by the
// deviation). Source: 2503.20783. Checked by tests/losses/loss_oracle_test.cc, preset rft.dr_grpo.
#include "losses/clip.h"

namespace rft {
namespace {

void DrGrpoDefaults(LossConfig& config) {
  config.log_ratio_cap = 20.0;
  config.aggregation = Aggregation::kSeqMeanTokenSumNorm;
  config.correction = ImportanceCorrection{};
}

RFT_REGISTER_POLICY_LOSS("dr-grpo", DrGrpo, &ClipSurrogate, &DrGrpoDefaults);

}  // namespace
}  // namespace rft
