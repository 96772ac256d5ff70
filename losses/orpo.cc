// ORPO (2403.07691, eq. 4, 6, 7): mean negative log-probability of the chosen completion, minus beta log sigmoid of the log
// odds ratio, with P = exp(mean log-probability) and odds = P / (1 - P). No reference.
#include <ATen/TensorOperators.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log_sigmoid.h>

#include "losses/preference_loss.h"

namespace rft {
namespace {

class OrpoLoss : public PreferenceLoss {
 public:
  PreferenceConfig DefaultConfig() const override {
    return {.name = "orpo", .beta = 0.1, .sft_coef = 1.0};
  }
  bool needs_reference() const override { return false; }
  PreferenceOutput forward(const PreferenceInput& in, const PreferenceConfig& c) const override {
    const at::Tensor mean_R = in.logps_R / in.tokens_R;
    // log(1 - P); a completion of probability 1 has no odds: its distance from 1 is kept at 1e-12 at least
    const at::Tensor log_odds_R = mean_R - at::log(-at::expm1(mean_R.clamp_max(-1e-12)));
    const at::Tensor ratio_P = Chosen(log_odds_R) - Rejected(log_odds_R);
    return PairedOutput(in, c, -at::log_sigmoid(ratio_P) * c.beta, mean_R * c.beta);
  }
};

RFT_REGISTER_PREFERENCE_LOSS("orpo", OrpoLoss);

}  // namespace
}  // namespace rft
