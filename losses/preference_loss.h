// Preference losses: from the log-probabilities of whole completions to a raw sum.
//
// Shapes: R completions. Paired losses: row 2 i is the chosen, row 2 i + 1 the rejected completion of prompt i; unpaired ones
// have a label per row. dtypes: all float64 (sums over tokens are made in it). Gradient: only through logps_R.
// Invariant to the order of pairs (or rows) and to how they are split over calls: add sums and denominators, divide once.
// Errors: c10::Error on a shape mismatch or a missing constant. Source: each file names its paper and equation; checked
// against TRL in tests/losses/preference_loss_test.cc.
//
// Adding one: losses/my_loss.cc with RFT_REGISTER_PREFERENCE_LOSS("my-loss", MyLoss) at its end.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "rft/core/preference_config.h"
#include "rft/core/registry.h"

namespace rft {

struct PreferenceInput {
  at::Tensor logps_R;  // nats, summed over the completion's tokens; with gradient
  at::Tensor
      ref_logps_R;      // the same under the reference, constant; undefined where the loss has none
  at::Tensor tokens_R;  // tokens of each completion, constant
  at::Tensor desirable_R;  // unpaired losses: 1 or 0
};

struct PreferenceOutput {
  at::Tensor sum;            // scalar, with gradient
  double denominator = 0.0;  // pairs, or rows
  // Divide by the denominator: accuracy (of the implicit reward), margin, reward_chosen, reward_rejected.
  std::map<std::string, double> metric_sums;
};

class PreferenceLoss {
 public:
  virtual ~PreferenceLoss() = default;
  virtual PreferenceConfig DefaultConfig() const = 0;
  virtual bool needs_reference() const = 0;
  virtual bool is_paired() const { return true; }
  virtual PreferenceOutput forward(const PreferenceInput& input,
                                   const PreferenceConfig& config) const = 0;
};

using PreferenceLossRegistry = Registry<std::unique_ptr<PreferenceLoss>>;
#define RFT_REGISTER_PREFERENCE_LOSS(name, Class)                                                 \
  static const bool rft_registered_preference_##Class = ::rft::PreferenceLossRegistry::Get().Add( \
      name, [] { return std::unique_ptr<::rft::PreferenceLoss>(new Class); })

// The registered loss; c10::Error listing the known names otherwise.
const PreferenceLoss& FindPreferenceLoss(std::string_view name);

// Rows 2 i and rows 2 i + 1.
at::Tensor Chosen(const at::Tensor& values_R);
at::Tensor Rejected(const at::Tensor& values_R);
// Sum, denominator and metrics of a paired loss from its losses and its implicit rewards; adds config.sft_coef.
PreferenceOutput PairedOutput(const PreferenceInput& input, const PreferenceConfig& config,
                              const at::Tensor& losses_P, const at::Tensor& rewards_R);
// -log sigmoid(x), smoothed: (1 - s) of it and s of -log sigmoid(-x).
at::Tensor SmoothedLogistic(const at::Tensor& x, double smoothing);

}  // namespace rft
