// DAPO's soft overlong penalty: a ramp added to the reward before advantages, instead of a cliff at
// the token limit.
//
//   0                                        n <= max_tokens - buffer_tokens
//   factor ((max - buffer) - n) / buffer     up to n = max_tokens
//   -factor                                  beyond
// Example (max 20, buffer 4): n = 16 gives 0, 17 gives -0.25, 20 gives -1. A buffer of 0 is a cliff
// after max_tokens.
// Source: 2503.14476 eq. 13. Torch-free, pure. As a grader of the same name: soft_overlong.cc.
#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace rft {

struct SoftOverlong {
  int64_t max_tokens = 0;     // completion tokens; at least 1
  int64_t buffer_tokens = 0;  // 0..max_tokens
  double factor = 1.0;        // reward units, at least 0
};

// kInvalidArgument naming the field that is out of range.
absl::Status ValidateSoftOverlong(const SoftOverlong& options);

// What to add to the reward of a completion of `num_tokens`. REQUIRES: valid options.
double SoftOverlongPenalty(int64_t num_tokens, const SoftOverlong& options);

}  // namespace rft
