// The dropout of an adapter's inputs in training: a mask per (steps taken, pass, datum, position), however the datums are packed.
#pragma once

#include <cstdint>
#include <memory>

#include "rft/models/causal_lm.h"
#include "rft/models/lora.h"
#include "rft/train/batcher.h"

namespace rft {

// The same version with the masks of this micro-batch.
std::shared_ptr<const ModelWeights> WithDropout(const ModelWeights& weights,
                                                const LoraConfig& config, int64_t step,
                                                uint64_t pass, const MicroBatch& batch);

}  // namespace rft
