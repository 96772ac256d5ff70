// The keys and values of all running sequences, in pages of 16 tokens, and attention over them.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/engine/page_pool.h"
#include "rft/tensor/attention.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/read_ahead.h"

namespace rft {

// Storage. A page holds 16 positions of all layers: per layer a K block of each kv head, then a V block of each
// (rft/tensor/key_blocks.h); then, where layout.index_dim is not 0, a K block of the keys that tokens select by.
class PagedCache {
 public:
  // `route_bytes`: of the packed routing that is kept beside each position (mixtures of experts).
  PagedCache(int64_t num_pages, int64_t num_layers, const HeadLayout& layout, at::ScalarType dtype,
             int64_t route_bytes = 0);
  static int64_t PageBytes(int64_t num_layers, const HeadLayout& layout, at::ScalarType dtype);

  template <typename T>
  T* Keys(PageId page, int64_t layer, int64_t kv_head) const {
    return static_cast<T*>(storage_.data_ptr()) + page * page_elements_ + layer * layer_elements_ +
           kv_head * k_elements_;
  }
  template <typename T>
  T* Values(PageId page, int64_t layer, int64_t kv_head) const {
    return Keys<T>(page, layer, 0) + layout_.num_kv_heads * k_elements_ + kv_head * v_elements_;
  }
  template <typename T>
  T* IndexKeys(PageId page, int64_t layer) const {
    return Values<T>(page, layer, layout_.num_kv_heads);
  }
  // A page's keys and values of one layer.
  MemoryRange LayerOf(PageId page, int64_t layer) const;
  int64_t num_layers() const { return num_layers_; }
  // Packed routing of the token at `slot` of a page (core/routes.h): it is shared, copied and evicted with its page.
  uint8_t* Routes(PageId page, int64_t slot) {
    return routes_.data() + (page * kBlockKeys + slot) * route_bytes_;
  }
  void CopyPage(PageId from, PageId to);
  const HeadLayout& layout() const { return layout_; }

 private:
  HeadLayout layout_;
  int64_t num_layers_;
  int64_t k_elements_, v_elements_, layer_elements_, page_elements_;
  at::Tensor storage_;
  int64_t route_bytes_;
  std::vector<uint8_t> routes_;
};

// Tokens of one sequence in this iteration: `count` rows of the packed stream from `begin`, at positions `start` onwards.
struct PagedSequence {
  int64_t begin = 0, count = 0, start = 0;
  const std::vector<PageId>* pages = nullptr;  // covers positions [0, start + count)
};

// Prefill and decode: stores the new keys and values, then attends. Inference only.
class PagedAttention : public AttentionContext {
 public:
  PagedAttention(PagedCache& cache, std::vector<PagedSequence> sequences);
  at::Tensor Attend(int64_t layer, const at::Tensor& qkv_TX, const HeadLayout& layout,
                    double scale) override;
  void Select(int64_t layer, const Indexer& indexer) override;

 private:
  // Keys and values of `layer` are read after the products before it: they may come into the cache meanwhile.
  void ReadAhead(int64_t layer, const HeadLayout& layout) const;

  PagedCache& cache_;
  std::vector<PagedSequence> sequences_;
  SelectedKeys selected_;
};

}  // namespace rft
