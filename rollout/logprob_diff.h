// How far the sampler's and the trainer's log-probabilities of the same tokens are apart. Torch-free, pure.
//
// d = trainer - sampler, per trained token, in nats:
//   max   largest |d|          mean   mean |d|
//   k3    mean of exp(d) - 1 - d, an estimate of KL(sampler || trainer) that is never negative
//   kl_max   the largest mean of exp(d) - 1 - d over the tokens of one rollout
// Source of k3: J. Schulman, "Approximating KL Divergence" (2020).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "rft/api/datum.h"

namespace rft {

struct LogprobDiff {
  double max = 0.0;
  double mean = 0.0;
  double k3 = 0.0;
  double kl_max = 0.0;
  int64_t num_tokens = 0;  // 0: nothing was compared
};

// REQUIRES: as many vectors as datums on both sides, each as long as its datum. Tokens of weight 0 don't count. A value that
// is not finite on either side makes every figure infinite: it must not go unnoticed.
LogprobDiff CompareLogprobs(absl::Span<const Datum> datums,
                            const std::vector<std::vector<float>>& sampler,
                            const std::vector<std::vector<float>>& trainer);

}  // namespace rft
