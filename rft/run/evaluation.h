// Mean reward on held-out prompts. The weights don't change, and neither does anything a training step samples.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/api/inference_engine.h"
#include "rft/api/text_codec.h"
#include "rft/run/reports.h"
#include "rollout/group_runner.h"
#include "rollout/prompt_set.h"

namespace rft {

struct EvalOptions {
  uint64_t seed = 0;
  int32_t num_samples = 1;  // per row
  SamplingParams sampling;
  std::shared_ptr<const TokenGrammar> grammar;  // null: free text
  RunnerLimits limits;
};

// Samples and grades every prompt. The random numbers depend on the seed and the row only, so that two evaluations of one
// run differ by their weights alone, row by row: what a paired comparison wants.
absl::StatusOr<EvalReport> EvaluatePrompts(InferenceEngine& engine, const TextCodec& codec,
                                           const GradeFunction& grade,
                                           const std::vector<Prompt>& prompts,
                                           const EvalOptions& options);

// {"reward_mean", "num_rows", "metrics", "rewards", "samples"}; NaN is null.
std::string EvalReportToJson(const EvalReport& report);

// Reads reward_mean, num_rows and rewards back. kInvalidArgument names what is missing.
absl::StatusOr<EvalReport> EvalReportFromJson(std::string_view text);

}  // namespace rft
