// Datums to what a preference loss takes: sums over completions, and micro-batches that keep pairs together.
#pragma once

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "losses/preference_loss.h"
#include "rft/api/datum.h"
#include "rft/train/batcher.h"

namespace rft {

// kInvalidArgument names the datum: pairs, a completion with no token, weights other than 0 and 1, missing ref_logprobs.
absl::Status ValidatePreference(absl::Span<const Datum> datums, const PreferenceLoss& loss);

// Ranges [begin, end) of datums of at most `token_budget` tokens each; a pair is never split.
std::vector<std::pair<size_t, size_t>> PreferenceChunks(absl::Span<const Datum> datums,
                                                        const PreferenceLoss& loss,
                                                        int64_t token_budget);

// The chunk's predictions summed by datum, in float64. REQUIRES: `batch` holds all of the chunk.
PreferenceInput PreferenceInputs(absl::Span<const Datum> chunk, const MicroBatch& batch,
                                 const at::Tensor& logprobs_N, const PreferenceLoss& loss);

}  // namespace rft
