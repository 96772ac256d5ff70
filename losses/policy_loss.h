// What the policy losses share; they differ in the surrogate and in their defaults only.
//
// Per token, in this order (every step is a knob of LossConfig):
//   surrogate(ratio, advantage) -> off-policy mask -> top-entropy mask -> times the mismatch
//   correction -> plus the surrogate's own uncorrected part -> plus kl_coef * KL(policy || reference)
//   -> minus entropy_coef * entropy -> plus sft_coef * cross-entropy -> aggregated (aggregate.h)
// The KL, entropy and cross-entropy terms are never masked or multiplied by the correction.
// Cross-entropy counts tokens by sft_weights_T, or those of positive advantage (2504.05118).
//
// float64 throughout, whatever the input. On a CPU, losses built on ClipSurrogate without the
// rarer knobs take one fused pass instead, in the dtype of the input (fused_clip.h).
// Metrics: docs/losses.md. Errors: c10::Error on a bad input or knob, before anything is computed.
#pragma once

#include "losses/correction.h"
#include "losses/loss.h"
#include "losses/metrics.h"
#include "losses/packed_rows.h"

namespace rft {

// Everything a surrogate reads: inactive tokens are zeros, float64.
struct SurrogateInput {
  const LossInput& clean;         // sampling_logprobs_T is defined; held_logprobs_T too: sg(lp)
  const at::Tensor& log_ratio_T;  // with gradient, capped (ratio.h)
  at::Tensor held_log_ratio_T;    // the same of sg(lp): constant
  const PackedRows& rows;
  const LossConfig& config;
  const CorrectionWeights* correction;  // null: none
};

struct SurrogateTerm {
  at::Tensor loss_T;          // with gradient
  at::Tensor uncorrected_T;   // added after masks and correction; undefined: nothing
  at::Tensor live_T;          // bool: carries gradient; undefined: where the advantage is not 0
  bool is_corrected = false;  // the correction is inside already
};

using Surrogate = SurrogateTerm (*)(const SurrogateInput& input, MetricCollector* metrics);

LossOutput PolicyLoss(Surrogate surrogate, const LossInput& input, const LossConfig& config);

// A loss that is a surrogate and its defaults.
class SurrogateLoss : public Loss {
 public:
  SurrogateLoss(const char* name, Surrogate surrogate, void (*defaults)(LossConfig&),
                bool splits_over_calls = true)
      : name_(name), surrogate_(surrogate), defaults_(defaults), splits_(splits_over_calls) {}

  LossConfig DefaultConfig() const override {
    LossConfig config;
    config.name = name_;
    defaults_(config);
    return config;
  }
  LossOutput forward(const LossInput& input, const LossConfig& config) const override {
    return PolicyLoss(surrogate_, input, config);
  }
  bool splits_over_calls() const override { return splits_; }

 private:
  const char* name_;
  Surrogate surrogate_;
  void (*defaults_)(LossConfig&);
  bool splits_;
};

// RFT_REGISTER_POLICY_LOSS("dapo", Dapo, ClipSurrogate, DapoDefaults); once per file.
#define RFT_REGISTER_POLICY_LOSS(name, Id, ...)                                                 \
  static const bool rft_registered_policy_loss_##Id = ::rft::LossRegistry::Get().Add(name, [] { \
    return std::unique_ptr<::rft::Loss>(new ::rft::SurrogateLoss(name, __VA_ARGS__));           \
  })

}  // namespace rft
