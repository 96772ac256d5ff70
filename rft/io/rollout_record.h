// Rollout <-> JSON, complete and versioned: what goes in comes out with the same bits
// (log-probabilities are the shortest decimals that read back as the same float; NaN and infinities
// are texts).
//
// Layout: {"version": 1, "step", "group", "index", "completion", "finish_reason", "scored", "reward",
//   "advantage", "token_advantages",
//   "grades": [{"grader", "weight", "kind": "score" | ..., and the kind's own fields}],
//   "segments": [{"kind": "prompt" | "model" | "tool" | "env", "ids", "loss_mask",
//                 "sampling_logprobs", "logprobs", "versions", "routes" (hex)}]}
// Empty per-token vectors are left out.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "rft/core/json_writer.h"
#include "rft/core/types.h"

namespace rft {

// One line.
std::string RolloutToJson(const Rollout& rollout);
void WriteRollout(const Rollout& rollout, JsonWriter& writer);

// kInvalidArgument names the wrong or missing field ("segments[1]: 'ids' is missing"), per-token
// vectors of the wrong length, and a version newer than Rollout::kFormatVersion. Unknown fields are
// ignored.
absl::StatusOr<Rollout> RolloutFromJson(std::string_view text);

}  // namespace rft
