// Activation checkpointing: a block's activations are computed again in the backward instead of being kept.
//
//   CheckpointScope scope(1);                 // every block; 2: every second one
//   h = model forward ...                     // blocks call Checkpoint
//   loss.backward();
//
// Blocks are pure functions of their input with bits that don't depend on the batch, so gradients are bit for bit those
// without. The graph keeps a block; what the block refers to must live until the backward. One scope per thread at a time.
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace rft::ops {

using Block = std::function<at::Tensor(const at::Tensor&)>;

class CheckpointScope {
 public:
  explicit CheckpointScope(int64_t every);  // 0: nothing is checkpointed
  ~CheckpointScope();
  CheckpointScope(const CheckpointScope&) = delete;
  CheckpointScope& operator=(const CheckpointScope&) = delete;

 private:
  friend at::Tensor Checkpoint(int64_t index, Block block, const at::Tensor& x);
  const int64_t every_;
  CheckpointScope* const outer_;
};

// block(x), checkpointed when a scope of this thread says so for block `index`.
at::Tensor Checkpoint(int64_t index, Block block, const at::Tensor& x);
// block(x), checkpointed. REQUIRES: Recording(x).
at::Tensor Recomputed(Block block, const at::Tensor& x);

}  // namespace rft::ops
