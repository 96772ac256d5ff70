// RunConfig in the words of the rooms that do the work. Pure functions; where a value is wrong for a run, the error names
// the key and where it was written.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/api/datum.h"
#include "rft/api/text_codec.h"
#include "rft/api/token_mask.h"
#include "rft/config/run_config.h"
#include "rft/core/memory_plan.h"
#include "rft/run/evaluation.h"
#include "rft/run/run_parts.h"
#include "rft/run/update.h"
#include "rollout/orchestrator.h"

namespace rft {

// What no single field's range can say: a temperature of 0 (all completions of a group would be the same), min_tokens above
// max_tokens, two grammars.
absl::Status CheckRunConfig(const RunConfig& config);

SamplingParams SamplingFor(const RunConfig& config);
// Keys of the grammars that are set, with what they say. CheckRunConfig lets one pass.
std::vector<std::pair<std::string, GrammarSpec>> GrammarsOf(const RolloutConfig& rollout);
// Null where no grammar is set. The codec's errors, with the key.
absl::StatusOr<std::shared_ptr<const TokenGrammar>> CompileGrammar(const RunConfig& config,
                                                                   const TextCodec& codec);
RunnerLimits LimitsFor(const RunConfig& config);
// kInvalidArgument: an unknown advantage.kind (lists the known ones).
absl::StatusOr<OrchestratorOptions> OrchestratorOptionsFor(const RunConfig& config);
EvalOptions EvalOptionsFor(const RunConfig& config);
Comparison ComparisonFor(const RunConfig& config);
// With the learning rate of step `step`.
UpdateOptions UpdateOptionsFor(const RunConfig& config, const LossConfig& loss, int64_t step);
// The most that a step can bring: every prompt as long as the longest, every completion of max_tokens.
MemoryWorkload MemoryWorkloadFor(const RunConfig& config, bool keeps_version,
                                 int64_t longest_prompt, int64_t num_heldout,
                                 const EngineStats& engine);

}  // namespace rft
