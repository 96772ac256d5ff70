// What a teacher says of datums, for a micro-batch: rft/train/trainer.h, ForwardBackwardDistillation.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "rft/train/batcher.h"
#include "rft/train/trainer.h"

namespace rft {

// kInvalidArgument names the datum and the position: no top tokens, a wrong length, an id outside the vocabulary.
absl::Status ValidateTeacher(absl::Span<const Datum> datums, const Description& teacher,
                             int64_t vocab_size);

// The micro-batch's N predictions: the teacher's K tokens (int64), their log-probabilities (float32), the weights (float64).
struct TeacherTokens {
  at::Tensor ids_NK, logprobs_NK, weights_N;
};
// REQUIRES: ValidateTeacher was ok.
TeacherTokens TeacherTokensOf(absl::Span<const Datum> datums, const MicroBatch& batch,
                              const Description& teacher);

}  // namespace rft
