// Policy losses: pure functions from token log-probabilities and constants to a raw sum.
//
// Shapes: T tokens of R rows packed one after another, row_offsets_R1 (int64, R + 1 entries, row r
// is [off[r], off[r+1])).
// dtypes: all float32, or all float64. Never bf16. Policy losses compute in float64 either way
// (fused_clip.h: in the dtype of the input).
// Gradient: only through logprobs_T.  Invariant to the order of rows and to how rows are split over
// calls: the caller adds the sums and the denominators of all calls of a step and divides once.
// Errors: c10::Error on shape or dtype mismatch, on a missing constant, and on an unknown name.
// Source: each file names its paper and equation; checked by tests/losses/loss_oracle_test.cc.
//
// Adding one: losses/my_loss.cc with RFT_REGISTER_LOSS("my-loss", MyLoss) at its end.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "rft/core/loss_config.h"
#include "rft/core/registry.h"

namespace rft {

struct LossInput {
  at::Tensor logprobs_T;           // nats, with gradient
  at::Tensor old_logprobs_T;       // nats, constant
  at::Tensor sampling_logprobs_T;  // nats, constant; undefined = equal to old_logprobs_T
  at::Tensor ref_logprobs_T;       // nats, constant; may be undefined when kl_coef == 0
  at::Tensor advantages_T;         // constant
  at::Tensor mask_T;               // 0 or 1; 0 = no gradient, no effect on any row statistic
  at::Tensor row_offsets_R1;       // int64
  at::Tensor entropy_T;  // nats; only for entropy_coef (gradient, if it has one) and top_entropy
  at::Tensor sft_weights_T;  // >= 0; only for sft_coef. Undefined: 1 where the advantage is > 0
  // What stands for logprobs_T wherever the formula holds it constant, sg(lp). Undefined = its own
  // values, which is what training wants; finite differences need it held while logprobs_T moves.
  at::Tensor held_logprobs_T;
};

struct LossOutput {
  at::Tensor
      sum;  // scalar, with gradient: divide by `denominator` (of the whole step) for the loss
  double denominator =
      0.0;  // this call's share: active tokens or active rows; 0 = a plain sum, do not divide
  std::map<std::string, double>
      metric_sums;  // token sums over active tokens; divide by num_tokens. Names: docs/losses.md
  std::map<std::string, double>
      metric_maxima;  // ratio_max, ...; combine with max; empty without active tokens
  std::map<std::string, double>
      metric_minima;  // ratio_min; combine with min; empty without active tokens
  double num_tokens = 0.0;
  double num_rows = 0.0;    // rows with an active token
  double num_masked = 0.0;  // tokens that are not active
};

class Loss {
 public:
  virtual ~Loss() = default;
  // This loss's recommended defaults, `name` included.
  virtual LossConfig DefaultConfig() const = 0;
  virtual LossOutput forward(const LossInput& input, const LossConfig& config) const = 0;
  // Whether rows can be split over calls without changing the result. Losses that rank the tokens
  // of a call against each other cannot.
  virtual bool splits_over_calls() const { return true; }
};

using LossRegistry = Registry<std::unique_ptr<Loss>>;
#define RFT_REGISTER_LOSS(name, Class)            \
  static const bool rft_registered_loss_##Class = \
      ::rft::LossRegistry::Get().Add(name, [] { return std::unique_ptr<::rft::Loss>(new Class); })

// The defaults of a registered loss or of a preset (losses/presets.h): "dapo", "trl.dapo".
// Underscores count as hyphens. c10::Error listing the known names otherwise.
LossConfig LossDefaults(std::string_view name);

// The registered loss; c10::Error listing the known names otherwise.
const Loss& FindLoss(std::string_view name);

}  // namespace rft
