// Figures about rollouts, for metrics.jsonl, plots and evaluations. Torch-free, pure.
//
// Names (docs and plots use the same): reward_mean, reward_std (sample deviation), completion_length_mean (tokens),
// completion_length_max, truncated_fraction, unscored_fraction; per grader grader/<name> (mean score over its scores),
// grader/<name>/<sub> (its sub-scores), and grader/<name>/abstain|error|timeout|killed (counts, only where there are any).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "rft/core/types.h"
#include "rollout/step_batch.h"

namespace rft {

using Metrics = std::map<std::string, double>;

// reward_mean and reward_std are NaN when nothing is scored (JSON: null).
Metrics RolloutMetrics(absl::Span<const Rollout* const> rollouts);

// All rollouts of the step, those of dropped groups included, by group id.
std::vector<const Rollout*> AllRollouts(const StepBatch& batch);

// RolloutMetrics of all rollouts of the step (dropping groups must not look like learning), and num_groups, num_filtered,
// filtered/<reason>, tokens_sampled, reward_mean_kept (over the kept groups; NaN without any).
Metrics StepMetrics(const StepBatch& batch);

// Tokens of all completions of the step.
int64_t TokensSampled(const StepBatch& batch);

}  // namespace rft
