#include "rft/engine/paged_cache.h"

#include <cstring>

#include <ATen/ops/empty.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/key_blocks.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

int64_t KeyElements(const HeadLayout& l) { return l.head_dim * kBlockKeys; }
int64_t ValueElements(const HeadLayout& l) { return RoundUp(l.head_dim, kBlockKeys) * kBlockKeys; }

// Stores this iteration's keys and values of one (sequence, kv head), then attends its queries over all keys.
template <typename T>
void AttendSequence(const PagedCache& cache, const PagedSequence& s, int64_t layer, int64_t kv_head,
                    const T* qkv, float scale, T* out) {
  const HeadLayout& l = cache.layout();
  const int64_t d = l.head_dim, width = l.width(), heads_per_kv = l.num_heads / l.num_kv_heads;
  const int64_t k_column = (l.num_heads + kv_head) * d,
                v_column = (l.num_heads + l.num_kv_heads + kv_head) * d;
  for (int64_t t = 0; t < s.count; ++t) {
    const int64_t position = s.start + t, slot = position % kBlockKeys;
    const PageId page = (*s.pages)[position / kBlockKeys];
    const T* row = qkv + (s.begin + t) * width;
    StoreKey(row + k_column, d, slot, cache.Keys<T>(page, layer, kv_head));
    StoreValue(row + v_column, d, slot, cache.Values<T>(page, layer, kv_head));
  }
  thread_local std::vector<const T*> k_blocks, v_blocks;
  thread_local std::vector<AttentionRow<T>> rows;
  thread_local std::vector<float> scratch;
  const int64_t keys = s.start + s.count, blocks = RoundUp(keys, kBlockKeys) / kBlockKeys;
  k_blocks.resize(blocks);
  v_blocks.resize(blocks);
  for (int64_t b = 0; b < blocks; ++b) {
    k_blocks[b] = cache.Keys<T>((*s.pages)[b], layer, kv_head);
    v_blocks[b] = cache.Values<T>((*s.pages)[b], layer, kv_head);
  }
  rows.clear();
  for (int64_t t = 0; t < s.count; ++t)
    for (int64_t h = 0; h < heads_per_kv; ++h) {
      const int64_t head = kv_head * heads_per_kv + h;
      rows.push_back({qkv + (s.begin + t) * width + head * d,
                      out + ((s.begin + t) * l.num_heads + head) * d, s.start + t + 1, nullptr,
                      nullptr});
    }
  scratch.resize(AttendScratch(keys, d));
  GetKernels().typed<T>().attend(rows.data(), static_cast<int64_t>(rows.size()), k_blocks.data(),
                                 v_blocks.data(), d, scale, scratch.data());
}

}  // namespace

PagedCache::PagedCache(int64_t num_pages, int64_t num_layers, const HeadLayout& layout,
                       at::ScalarType dtype)
    : layout_(layout),
      k_elements_(KeyElements(layout)),
      v_elements_(ValueElements(layout)),
      layer_elements_(layout.num_kv_heads * (k_elements_ + v_elements_)),
      page_elements_(num_layers * layer_elements_),
      storage_(at::empty({num_pages * page_elements_}, dtype)) {}

int64_t PagedCache::PageBytes(int64_t num_layers, const HeadLayout& layout, at::ScalarType dtype) {
  return num_layers * layout.num_kv_heads * (KeyElements(layout) + ValueElements(layout)) *
         static_cast<int64_t>(c10::elementSize(dtype));
}

void PagedCache::CopyPage(PageId from, PageId to) {
  const int64_t bytes = page_elements_ * static_cast<int64_t>(storage_.element_size());
  char* base = Data<char>(storage_);
  std::memcpy(base + to * bytes, base + from * bytes, bytes);
}

at::Tensor PagedAttention::Attend(int64_t layer, const at::Tensor& qkv_TX, const HeadLayout& layout,
                                  double scale) {
  at::Tensor out =
      at::empty({qkv_TX.size(0), layout.num_heads * layout.head_dim}, qkv_TX.options());
  DispatchFloat(qkv_TX.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    int64_t pairs = 0;
    for (const PagedSequence& s : sequences_) pairs += s.count * (s.start + s.count);
    const int64_t work = 2 * pairs * layout.num_heads * layout.head_dim;
    ParallelTasks(static_cast<int64_t>(sequences_.size()) * layout.num_kv_heads, work,
                  [&](int64_t task) {
                    AttendSequence(cache_, sequences_[task / layout.num_kv_heads], layer,
                                   task % layout.num_kv_heads, Data<T>(qkv_TX),
                                   static_cast<float>(scale), Data<T>(out));
                  });
  });
  return out;
}

}  // namespace rft
