// The training half of a step: kept groups in, changed weights out. Torch-free: it speaks to the trainer through its verbs.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/api/training_client.h"
#include "rft/core/loss_config.h"
#include "rollout/advantage.h"
#include "rollout/datums.h"
#include "rollout/logprob_diff.h"
#include "rollout/step_batch.h"

namespace rft {

// Which of the sampler's log-probabilities the trainer's can be compared with.
enum class Comparison {
  kNone,  // the distribution sampled from was changed (top-p, a penalty, a grammar), and the temperature is not 1
  kSampling,  // sampling_logprobs: nothing but the temperature shaped the distribution
  kFull,      // logprobs at temperature 1
};
Comparison ComparisonFor(const SamplingParams& sampling, bool has_grammar);

// A loss of the caller's in place of a registered one: called with an update's datums and their current log-probabilities.
using BatchLoss = std::function<absl::StatusOr<CustomLossResult>(
    absl::Span<const Datum> datums, const std::vector<std::vector<float>>& logprobs)>;

struct UpdateOptions {
  LossConfig loss;
  BatchLoss
      custom_loss;  // in place of `loss`, of which only kl_coef and kl_target are read then; may be empty
  AdamParams adam;
  int64_t num_updates =
      1;  // optimizer steps made of one batch; each trains on its own share of the groups
  Comparison comparison = Comparison::kSampling;
  DatumOptions datums;
  AdvantageOptions advantage;  // for loss.kl_target reward: advantages are computed anew
  bool replay_old_routes =
      false;  // with several updates: the experts of the forward before the first
};

struct UpdateResult {
  double loss = 0.0;        // of the first update, divided by its denominator
  double grad_norm = 0.0;   // of the last update that was made
  int64_t num_updates = 0;  // made
  int64_t num_skipped = 0;  // given up because of NaN or Inf: weights and optimizer state as before
  std::string
      not_finite;  // of the first of these: "row 17, group 5, rollout 2: advantages[7] is nan", if that is known
  int64_t num_tokens = 0;  // trained on
  int64_t num_computed_tokens = 0;
  int64_t num_rollouts = 0;  // trained on
  LogprobDiff
      diff;  // sampler against trainer, before the first update; num_tokens 0 if nothing was compared
  double kl_max = 0.0;  // sampler against the policy as each update saw it
  std::map<std::string, double>
      metrics;  // loss/<name>: token means; maxima and minima of all updates
};

// Trains on the kept groups. With several updates, the trainer's log-probabilities from before the first one are every
// update's old_logprobs; with one, the forward's own values are (on-policy). `reference`: the frozen model of the KL term;
// may be null when loss.kl_coef is 0.
// Errors are the trainer's; the accumulated gradient is cleared then.
absl::StatusOr<UpdateResult> TrainOnBatch(TrainingClient& trainer, TrainingClient* reference,
                                          const StepBatch& batch, const UpdateOptions& options);

}  // namespace rft
