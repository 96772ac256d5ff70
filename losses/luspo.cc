// "luspo": gspo with each row's loss multiplied by its length, which takes out the preference for
// short rows of the mean over tokens.
//   J = (1/B) sum_i sum_t max(-s_i A_t, -clip(s_i, 1 - 3e-4, 1 + 4e-4) A_t)
// Source: 2602.05261. Checked by tests/losses/loss_oracle_test.cc, preset trl.luspo.
#include "losses/clip.h"

namespace rft {
namespace {

void LuspoDefaults(LossConfig& config) {
  RowRatioDefaults(RatioLevel::kSequence, config);
  config.aggregation = Aggregation::kSeqMeanTokenSum;
}

RFT_REGISTER_POLICY_LOSS("luspo", Luspo, &ClipSurrogate, &LuspoDefaults);

}  // namespace
}  // namespace rft
