// Did the held-out reward rise? A paired bootstrap over rows. Torch-free, pure.
//
// Rows (not completions) are resampled, each with its pair of rewards; the interval is the percentile interval of the mean
// difference. Deterministic for a seed. Rows that could not be judged before or after (NaN) are left out of both.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace rft {

struct PairedDifference {
  double before = 0.0, after = 0.0;  // means over the rows compared
  double mean = 0.0;                 // after - before
  double low = 0.0, high = 0.0;      // of the 95 % interval
  int64_t num_rows = 0;
};

// kInvalidArgument: lists of different lengths; no row judged both times.
absl::StatusOr<PairedDifference> PairedBootstrap(absl::Span<const double> before,
                                                 absl::Span<const double> after, uint64_t seed,
                                                 int64_t num_resamples = 10000);

}  // namespace rft
