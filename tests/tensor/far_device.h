// A second torch device, to run on what is meant to run on any. Its memory is the host's, but the addresses that its tensors give
// are not mapped: whoever follows one crashes. An operation on its tensors copies them to the CPU, runs there and copies the
// results back; one that is given a CPU tensor as well (other than a single number) throws, as on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

namespace rft::testing {

at::Device FarDevice();

// What tests run on beside the CPU: FarDevice(), or the device that RFT_TEST_DEVICE names ("cuda:0") where there is a real one.
at::Device OtherDevice();

}  // namespace rft::testing
