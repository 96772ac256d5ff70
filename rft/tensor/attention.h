// What differs between training, prefill and decode is only the attention context handed to the model.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/head_layout.h"
#include "rft/tensor/key_selection.h"

namespace rft {

class AttentionContext {
 public:
  virtual ~AttentionContext() = default;
  // Causal attention of layer `layer` over rotated [q | k | v] rows: [T, width] (C) -> [T, num_heads * head_dim] (C).
  virtual at::Tensor Attend(int64_t layer, const at::Tensor& qkv_TX, const HeadLayout& layout,
                            double scale) = 0;
  // From layer `layer` on, until the layer of the next call, tokens attend only to the keys that the indexer selects.
  virtual void Select(int64_t layer, const Indexer& indexer) = 0;
};

// A run of packed tokens. Its keys are `prefix_count` tokens that start at `prefix_begin` (a prompt computed once for the
// whole group), then its own. Token i of the run stands at position prefix_count + i.
struct PackedSequence {
  int64_t begin = 0, count = 0;
  int64_t prefix_begin = 0, prefix_count = 0;
  int64_t group =
      0;  // runs that share a prefix have one group; the run that is the prefix comes first in it
};

// Packed-causal attention with shared prefixes, differentiable: training and scoring.
// The bits of a row are those of the paged attention of the engine over the same keys. An object serves one forward, and must live
// until its backward is done: layers that are computed again attend to the keys selected the first time.
class PackedAttention : public AttentionContext {
 public:
  // REQUIRES: runs of a group are consecutive; the first one is the prefix (prefix_count 0), the others all have the same
  // prefix, which starts where the first one starts.
  explicit PackedAttention(std::vector<PackedSequence> sequences);
  at::Tensor Attend(int64_t layer, const at::Tensor& qkv_TX, const HeadLayout& layout,
                    double scale) override;
  void Select(int64_t layer, const Indexer& indexer) override;

 private:
  std::shared_ptr<const std::vector<PackedSequence>> sequences_;
  std::map<int64_t, SelectedKeys> selected_;  // by the first layer that attends to them
};

}  // namespace rft
