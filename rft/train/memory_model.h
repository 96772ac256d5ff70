// How many bytes a forward and backward over a micro-batch takes: what autograd keeps of each layer, by counting the tensors
// that the operations of rft/tensor save, and the largest workspace of the backward.
// rft/train/memory_planner.h adds what lives longer. Compared with the process's real peak by `rft check memory`. Where the model is on
// another device, of torch's operations (rft/tensor/composite.h) as they are with fused kernels for norms and attention; compared
// with the allocations on tests/tensor/far_device.h, which has no such kernels, only roughly.
#pragma once

#include <cstdint>

#include "rft/models/causal_lm.h"
#include "rft/models/lora.h"

namespace rft {

struct MicroBatchShape {
  int64_t tokens = 0, predictions = 0;
  int64_t longest_row = 0;  // tokens: attention's scratch grows with it
  int64_t checkpoint_every = 0;
};

struct MicroBatchMemory {
  int64_t activations = 0;  // kept from the forward for the backward
  int64_t workspace = 0;    // of the layer or the head, whichever takes more
  int64_t logits =
      0;  // chunks of the vocabulary projection and its gradient (part of the head's workspace)
};

// `adapter` may be null.
MicroBatchMemory MemoryOfMicroBatch(const CausalLm& model, const LoraAdapter* adapter,
                                    const MicroBatchShape& shape);

// Of one packed version, without the masters.
int64_t PackedBytes(const CausalLm& model);

}  // namespace rft
