// One training row, and what the trainer says about it. Torch-free.
//
// Alignment: every per-token vector is as long as `ids`, and entry t belongs to token ids[t], given ids[0..t-1].
// Entry 0 has no prediction: its mask must be 0 and its log-probability is reported as 0.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rft/core/routes.h"
#include "rft/core/types.h"

namespace rft {

struct Datum {
  std::vector<TokenId> ids;  // prompt + completion, L tokens
  std::vector<float>
      weights;  // L; SFT weight or loss mask (0 = not trained on). weights[0] must be 0
  std::vector<float> advantages;  // L, or empty for losses that need none
  std::vector<float>
      old_logprobs;  // L, nats; empty = "on-policy": the forward's own values are used as constants
  std::vector<float> sampling_logprobs;  // L, nats; empty = equal to old_logprobs
  std::vector<float> ref_logprobs;       // L, nats; empty unless the loss has a reference KL
  std::vector<float>
      sft_weights;  // L, of the cross-entropy mixed in (sft_coef); empty = 1 where the advantage is > 0
  // Experts to use instead of the router's choice, for the tokens that have an entry. Gate weights are computed from the
  // current logits, so the router still learns. Empty: the router decides. In a shared prefix, the first datum's count.
  TokenRoutes routes;
  // Datums with the same prefix_id >= 0 start with the same prefix_length tokens (a GRPO group's prompt): that prefix is
  // computed once for all of them, forward and backward. Mathematically and, for log-probabilities, bitwise the same.
  int64_t prefix_id = -1;
  int32_t prefix_length = 0;
};

// Per datum: log-probability (nats) of each token at the trainer's temperature; 0 where weights are 0.
struct ForwardResult {
  std::vector<std::vector<float>> logprobs;
  // Experts used (replayed ones included), per datum; of tokens that were not computed nothing is known. Empty for dense
  // models.
  std::vector<TokenRoutes> routes;
};

struct ForwardBackwardResult {
  double loss_sum = 0.0;                     // raw sum, before any denominator
  std::vector<std::vector<float>> logprobs;  // as ForwardResult
  std::map<std::string, double> metrics;     // token means over the active tokens of this call
  int64_t num_tokens = 0;                    // active tokens
  int64_t num_rows = 0;                      // rows with an active token
  int64_t num_computed_tokens = 0;  // positions that went through the model (shared prefixes once)
  bool finite = true;  // false: a NaN or Inf was seen; the accumulated gradient is unusable
  // Then, where it came from, if a datum of this call is to blame: which (-1: none by itself), and "advantages[7] is nan".
  int64_t not_finite_datum = -1;
  std::string not_finite;
};

// Comes with each optim_step: schedules belong to the run loop. Defaults as on the wire (Tinker / Fireworks).
struct AdamParams {
  double learning_rate = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-12;
  double weight_decay = 0.0;    // decoupled
  double grad_clip_norm = 0.0;  // global norm; 0 = off
};

struct OptimStepResult {
  double grad_norm = 0.0;  // of the normalised gradient, before clipping
  bool skipped =
      false;  // NaN/Inf in the gradient: parameters and optimizer state are bitwise unchanged
  int64_t version = 0;  // weight version after the step
};

}  // namespace rft
