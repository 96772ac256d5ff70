// Intel's matrix tiles (AMX) for CPUs that have none: the few instructions that rft uses raise SIGILL there, and its handler does
// what the manual says they do, in software. So the kernels' own machine code is tested everywhere that AVX-512-BF16 runs.
#pragma once

#include "rft/tensor/kernels.h"

namespace rft::testing {

// The "amx" table, null where the CPU lacks AVX-512-BF16. Where it lacks tiles, the first call installs the handler for the
// process. Instructions that the hardware would refuse (a tile without a shape, shapes that don't fit) end the process.
const Kernels* AmxKernels();

}  // namespace rft::testing
