// Rollouts to training rows. Torch-free, pure.
//
// Worked example: prompt {5, 6}, completion {7, 8} with sampling log-probabilities {-1, -2} and advantage 0.5 becomes
//   ids {5, 6, 7, 8}   weights {0, 0, 1, 1}   advantages {0, 0, .5, .5}   sampling_logprobs {0, 0, -1, -2}
//   prefix_id = the group's id, prefix_length 2
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "rft/api/datum.h"
#include "rft/core/types.h"

namespace rft {

struct DatumOptions {
  bool replay_routes = true;    // hand the recorded expert choices to the trainer
  bool mask_truncated = false;  // leave out completions that were cut off at the token limit
};

// The datums of a step with the rollouts they were made of: datums[i] from *rollouts[i], which belong to the groups given.
struct DatumBatch {
  std::vector<Datum> datums;
  std::vector<const Rollout*> rollouts;
};

// Whether a rollout is trained on: scored, with at least one token to train on, and not masked for being truncated.
bool IsTrainedOn(const Rollout& rollout, const DatumOptions& options);

// One datum per rollout that is trained on, in the order of groups and rollouts; old_logprobs and ref_logprobs are empty.
// A rollout that is not trained on has no datum: no weight, no share of the denominator, no computation.
// `groups` must outlive the result's pointers.
DatumBatch MakeDatums(absl::Span<const Group> groups, const DatumOptions& options);

// What the engine said about each token of each rollout, aligned as Datum: `sampling` of the distribution sampled from,
// otherwise at temperature 1 over the whole vocabulary.
std::vector<std::vector<float>> SamplerLogprobs(absl::Span<const Rollout* const> rollouts,
                                                bool sampling);

}  // namespace rft
