// Datums to what a policy loss takes.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "losses/loss.h"
#include "rft/api/datum.h"
#include "rft/api/training_client.h"
#include "rft/train/batcher.h"

namespace rft {

// kInvalidArgument names the datum: missing advantages or ref_logprobs, weights other than 0 and 1; or
// says that the config's KL is not in the loss.
absl::Status ValidateLossInputs(absl::Span<const Datum> datums, const LossConfig& config);

// kInvalidArgument unless the result has a gradient for every token of every datum and a denominator that can be one.
absl::Status ValidateCustomLoss(const CustomLossResult& custom, absl::Span<const Datum> datums);

// One loss row per datum, holding its predictions in order. What a datum leaves out means "on-policy" (datum.h).
LossInput LossInputs(absl::Span<const Datum> datums, const MicroBatch& batch,
                     const at::Tensor& logprobs_N);

}  // namespace rft
