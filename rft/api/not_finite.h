// Which datum of a call brought a NaN or an infinity into its loss. Torch-free, pure.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "rft/api/datum.h"

namespace rft {

// Sets not_finite_datum and not_finite of a result that is not finite: the first such number that counts (weight other than 0)
// among the datums' own vectors, the log-probabilities of the result and, where a loss of the caller's gave it, `gradient`
// (d loss / d logprob, one vector per datum). Where all of these are finite, the first whose square would not be: the sum
// overflowed. Leaves both as they are where there is none of these either.
void NameNotFinite(absl::Span<const Datum> datums, absl::Span<const std::vector<float>> gradient,
                   ForwardBackwardResult* result);

}  // namespace rft
