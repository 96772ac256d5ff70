#include "rft/engine/paged_cache.h"

#include <algorithm>
#include <cstring>

#include <ATen/ops/empty.h>

#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/key_blocks.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/read_ahead.h"

namespace rft {
namespace {

// With fewer, products wait for memory themselves and take nothing of the list (FullTiles in gemm_impl.h).
constexpr int64_t kRowsToReadAhead = 48;

int64_t KeyElements(int64_t head_dim, at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? KeyBlockElements<Bf16>(head_dim)
                                : KeyBlockElements<float>(head_dim);
}

int64_t LayerElements(const HeadLayout& l, at::ScalarType dtype) {
  return l.num_kv_heads * (KeyElements(l.head_dim, dtype) + ValueBlockElements(l.head_dim)) +
         KeyElements(l.index_dim, dtype);
}

// Attention of one layer for runs of (sequence, kv head) tasks. While a task computes, memory is asked for what the next
// one reads first: decode attention does little with each key, so waiting for the first lines would cost as much again.
template <typename T>
class PagedAttend {
 public:
  PagedAttend(const PagedCache& cache, const std::vector<PagedSequence>& sequences, int64_t layer,
              const HeadLayout& layout, const SelectedKeys& selected, const T* qkv, float scale,
              T* out)
      : cache_(cache),
        sequences_(sequences),
        layer_(layer),
        layout_(layout),
        selected_(selected),
        qkv_(qkv),
        scale_(scale),
        out_(out) {}

  void Run(int64_t begin, int64_t end) const {
    for (int64_t task = begin; task < end; ++task) {
      if (task + 1 < end) PrefetchSlots(task + 1);
      Store(task);
      Attend(task, task + 1 < end ? task + 1 : task);
    }
  }

 private:
  const PagedSequence& Sequence(int64_t task) const {
    return sequences_[task / layout_.num_kv_heads];
  }
  int64_t KvHead(int64_t task) const { return task % layout_.num_kv_heads; }
  const T* Keys(int64_t task, int64_t block) const {
    return cache_.Keys<T>((*Sequence(task).pages)[block], layer_, KvHead(task));
  }
  static int64_t NumBlocks(const PagedSequence& s) {
    return RoundUp(s.start + s.count, kBlockKeys) / kBlockKeys;
  }

  // The first block that any of the task's new tokens sees.
  int64_t FirstBlock(int64_t task) const {
    return layout_.FirstKey(Sequence(task).start) / kBlockKeys;
  }

  // The lines that the task's first new key and value go to. A key is spread over all lines of its block.
  void PrefetchSlots(int64_t task) const {
    const PagedSequence& s = Sequence(task);
    const PageId page = (*s.pages)[s.start / kBlockKeys];
    const int64_t slot = s.start % kBlockKeys, d = layout_.head_dim, dp = RoundUp(d, kBlockKeys),
                  step = kSumStep<T>, line = 64 / static_cast<int64_t>(sizeof(T));
    const T* k = cache_.Keys<T>(page, layer_, KvHead(task));
    const T* v = cache_.Values<T>(page, layer_, KvHead(task)) + (slot - slot % step) * dp;
    for (int64_t i = 0; i < d * kBlockKeys; i += line) __builtin_prefetch(k + i, 1, 3);
    for (int64_t i = 0; i < step * dp; i += line) __builtin_prefetch(v + i, 1, 3);
  }

  void Store(int64_t task) const {
    const HeadLayout& l = layout_;
    const PagedSequence& s = Sequence(task);
    const int64_t kv_head = KvHead(task), k_column = (l.num_heads + kv_head) * l.head_dim,
                  v_column = (l.num_heads + l.num_kv_heads + kv_head) * l.head_dim;
    for (int64_t t = 0; t < s.count; ++t) {
      const int64_t position = s.start + t, slot = position % kBlockKeys;
      const PageId page = (*s.pages)[position / kBlockKeys];
      const T* row = qkv_ + (s.begin + t) * l.width();
      StoreKey(row + k_column, l.head_dim, slot, cache_.Keys<T>(page, layer_, kv_head));
      StoreValue(row + v_column, l.head_dim, slot, cache_.Values<T>(page, layer_, kv_head));
    }
  }

  void Attend(int64_t task, int64_t next) const {
    const HeadLayout& l = layout_;
    const PagedSequence& s = Sequence(task);
    const int64_t d = l.head_dim, kv_head = KvHead(task),
                  heads_per_kv = l.num_heads / l.num_kv_heads;
    thread_local std::vector<const T*> k_blocks, v_blocks;
    thread_local std::vector<AttentionRow<T>> rows;
    thread_local std::vector<float> scratch;
    const int64_t keys = s.start + s.count, blocks = NumBlocks(s);
    k_blocks.resize(blocks + kBlocksAhead);
    v_blocks.resize(blocks + kBlocksAhead);
    for (int64_t b = FirstBlock(task); b < blocks; ++b) {
      k_blocks[b] = cache_.Keys<T>((*s.pages)[b], layer_, kv_head);
      v_blocks[b] = cache_.Values<T>((*s.pages)[b], layer_, kv_head);
    }
    for (int64_t i = 0; i < kBlocksAhead; ++i) {
      k_blocks[blocks + i] = v_blocks[std::min(FirstBlock(task) + i, blocks - 1)];
      v_blocks[blocks + i] =
          Keys(next, std::min(FirstBlock(next) + i, NumBlocks(Sequence(next)) - 1));
    }
    rows.clear();
    for (int64_t t = 0; t < s.count; ++t)
      for (int64_t h = 0; h < heads_per_kv; ++h) {
        const int64_t head = kv_head * heads_per_kv + h;
        rows.push_back({qkv_ + (s.begin + t) * l.width() + head * d,
                        out_ + ((s.begin + t) * l.num_heads + head) * d, s.start + t + 1, nullptr,
                        nullptr, layout_.FirstKey(s.start + t),
                        selected_.Of(s.begin + t, s.start + t + 1)});
      }
    scratch.resize(AttendScratch(keys, d));
    GetKernels().typed<T>().attend(rows.data(), static_cast<int64_t>(rows.size()), k_blocks.data(),
                                   v_blocks.data(), d, scale_, scratch.data());
  }

  const PagedCache& cache_;
  const std::vector<PagedSequence>& sequences_;
  int64_t layer_;
  const HeadLayout& layout_;  // this layer's window with it
  const SelectedKeys& selected_;
  const T* qkv_;
  float scale_;
  T* out_;
};

}  // namespace

PagedCache::PagedCache(int64_t num_pages, int64_t num_layers, const HeadLayout& layout,
                       at::ScalarType dtype, int64_t route_bytes)
    : layout_(layout),
      num_layers_(num_layers),
      k_elements_(KeyElements(layout.head_dim, dtype)),
      v_elements_(ValueBlockElements(layout.head_dim)),
      layer_elements_(LayerElements(layout, dtype)),
      page_elements_(num_layers * layer_elements_),
      storage_(LargeTensor(num_pages * page_elements_, dtype)),
      route_bytes_(route_bytes),
      routes_(num_pages * kBlockKeys * route_bytes) {}

int64_t PagedCache::PageBytes(int64_t num_layers, const HeadLayout& layout, at::ScalarType dtype) {
  return num_layers * LayerElements(layout, dtype) * static_cast<int64_t>(c10::elementSize(dtype));
}

MemoryRange PagedCache::LayerOf(PageId page, int64_t layer) const {
  const int64_t size = static_cast<int64_t>(storage_.element_size());
  return {Data<char>(storage_) + (page * page_elements_ + layer * layer_elements_) * size,
          layer_elements_ * size};
}

void PagedCache::CopyPage(PageId from, PageId to) {
  const int64_t bytes = page_elements_ * static_cast<int64_t>(storage_.element_size());
  char* base = Data<char>(storage_);
  std::memcpy(base + to * bytes, base + from * bytes, bytes);
  if (route_bytes_ > 0) std::memcpy(Routes(to, 0), Routes(from, 0), kBlockKeys * route_bytes_);
}

PagedAttention::PagedAttention(PagedCache& cache, std::vector<PagedSequence> sequences)
    : cache_(cache), sequences_(std::move(sequences)) {
  ReadAhead(0, cache_.layout());
}

void PagedAttention::ReadAhead(int64_t layer, const HeadLayout& layout) const {
  std::vector<MemoryRange> ranges;
  int64_t rows = 0;
  for (const PagedSequence& s : sequences_) rows += s.count;
  int64_t left = layer < cache_.num_layers() && rows >= kRowsToReadAhead ? ReadAheadBytes() : 0;
  const std::vector<PageId>* before = nullptr;
  for (const PagedSequence& s : sequences_) {
    const std::vector<PageId>& pages = *s.pages;
    const int64_t end = RoundUp(s.start, kBlockKeys) / kBlockKeys;  // what earlier iterations wrote
    for (int64_t b = layout.FirstKey(s.start) / kBlockKeys; b < end && left > 0; ++b) {
      if (before && b < static_cast<int64_t>(before->size()) && (*before)[b] == pages[b]) continue;
      ranges.push_back(cache_.LayerOf(pages[b], layer));
      left -= ranges.back().bytes;
    }
    before = s.pages;
  }
  SetReadAhead(std::move(ranges));
}

at::Tensor PagedAttention::Attend(int64_t layer, const at::Tensor& qkv_TX, const HeadLayout& layout,
                                  double scale) {
  const CostTimer timer(Cost::kAttention);
  at::Tensor out =
      at::empty({qkv_TX.size(0), layout.num_heads * layout.head_dim}, qkv_TX.options());
  DispatchFloat(qkv_TX.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    int64_t pairs = 0;
    for (const PagedSequence& s : sequences_) pairs += s.count * (s.start + s.count);
    const int64_t work = 2 * pairs * layout.num_heads * layout.head_dim;
    const int64_t tasks = static_cast<int64_t>(sequences_.size()) * layout.num_kv_heads;
    const PagedAttend<T> attend(cache_, sequences_, layer, layout, selected_, Data<T>(qkv_TX),
                                static_cast<float>(scale), Data<T>(out));
    ParallelFor(tasks, GrainFor(work / std::max<int64_t>(tasks, 1)),
                [&](int64_t begin, int64_t end) { attend.Run(begin, end); });
  });
  ReadAhead(layer + 1, layout);
  return out;
}

void PagedAttention::Select(int64_t layer, const Indexer& indexer) {
  TORCH_CHECK(cache_.layout().index_dim == indexer.dim, "paged cache: keys to select by have ",
              indexer.dim, " dims, there is room for ", cache_.layout().index_dim);
  const at::Tensor keys_TD = indexer.keys_TD();
  selected_ = SelectedKeys{};
  selected_.top_k = indexer.top_k;
  DispatchFloat(keys_TD.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::vector<std::vector<const T*>> blocks(sequences_.size());
    std::vector<SelectingToken<T>> tokens;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      const PagedSequence& s = sequences_[i];
      for (int64_t t = 0; t < s.count; ++t)
        StoreKey(Data<T>(keys_TD) + (s.begin + t) * indexer.dim, indexer.dim,
                 (s.start + t) % kBlockKeys,
                 cache_.IndexKeys<T>((*s.pages)[(s.start + t) / kBlockKeys], layer));
      if (s.start + s.count <= indexer.top_k) continue;
      for (int64_t b = 0; b * kBlockKeys < s.start + s.count; ++b)
        blocks[i].push_back(cache_.IndexKeys<T>((*s.pages)[b], layer));
      for (int64_t limit = std::max(s.start, indexer.top_k) + 1; limit <= s.start + s.count;
           ++limit)
        tokens.push_back({s.begin + limit - 1 - s.start, limit, blocks[i].data()});
    }
    if (!tokens.empty()) selected_.words_TW = SelectKeys<T>(indexer, indexer.queries(), tokens);
  });
}

}  // namespace rft
