// What the sandbox costs, measured: for `rft bench graders` (row graders/sandbox/overhead_ms).
#pragma once

#include "absl/status/statusor.h"

namespace rft {

// Milliseconds from handing over a program that prints one number to having all of its output; medians.
struct SandboxOverhead {
  double bare = 0.0;  // the same interpreter and program as a bare process, started for it
  double warm = 0.0;  // in a sandbox that was started ahead
  double back_to_back =
      0.0;  // per program when one follows another at once on one thread, starting the next ones included
};

// Blocks for about `num_executions` x 0.8 s. kFailedPrecondition: no sandbox here.
absl::StatusOr<SandboxOverhead> MeasureSandboxOverhead(int num_executions);

}  // namespace rft
