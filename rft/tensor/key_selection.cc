#include "rft/tensor/key_selection.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include <ATen/ops/empty.h>

#include "rft/tensor/attention_runs.h"
#include "rft/tensor/composite.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/key_blocks.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

int64_t NumBlocks(int64_t keys) { return RoundUp(keys, kBlockKeys) / kBlockKeys; }

// Ordered as the floats are; sorting takes a NaN, too.
uint32_t RankOf(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 is 0
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

// Bits of the top_k best of `limit` scores, top_k < limit.
void Choose(const float* scores, int64_t limit, int64_t top_k, uint16_t* words) {
  thread_local std::vector<uint32_t> ranks, sorted;
  ranks.resize(limit);
  for (int64_t j = 0; j < limit; ++j) ranks[j] = RankOf(scores[j]);
  sorted = ranks;
  std::nth_element(sorted.begin(), sorted.begin() + (top_k - 1), sorted.end(), std::greater<>());
  const uint32_t last = sorted[top_k - 1];
  int64_t equal = top_k - std::count_if(ranks.begin(), ranks.end(),
                                        [last](uint32_t rank) { return rank > last; });
  std::fill_n(words, NumBlocks(limit), uint16_t{0});
  for (int64_t j = 0; j < limit; ++j)
    if (ranks[j] > last || (ranks[j] == last && equal-- > 0))
      words[j / kBlockKeys] |= static_cast<uint16_t>(1u << (j % kBlockKeys));
}

// The indexer's keys of all runs, in blocks: a run's are those of its prefix, then its own.
template <typename T>
class RunBlocks {
 public:
  RunBlocks(const at::Tensor& keys_TD, const std::vector<PackedSequence>& runs) {
    const int64_t d = keys_TD.size(1), block = KeyBlockElements<T>(d);
    for (const PackedSequence& s : runs) {
      first_.push_back(static_cast<int64_t>(blocks_.size()));
      blocks_.resize(blocks_.size() + NumBlocks(s.prefix_count + s.count));
    }
    memory_.AllocateZeros(static_cast<int64_t>(blocks_.size()) * block);
    for (size_t b = 0; b < blocks_.size(); ++b)
      blocks_[b] = memory_.get() + static_cast<int64_t>(b) * block;
    ParallelFor(static_cast<int64_t>(runs.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < runs[i].prefix_count + runs[i].count; ++j)
          StoreKey(Data<T>(keys_TD) + TokenOf(runs[i], j) * d, d, j % kBlockKeys,
                   memory_.get() + (first_[i] + j / kBlockKeys) * block);
    });
  }
  const T* const* Of(size_t run) const { return blocks_.data() + first_[run]; }

 private:
  std::vector<int64_t> first_;  // block of each run
  std::vector<const T*> blocks_;
  Buffer<T> memory_;
};

}  // namespace

template <typename T>
at::Tensor SelectKeys(const Indexer& indexer, const Indexer::Queries& queries,
                      const std::vector<SelectingToken<T>>& tokens) {
  const CostTimer timer(Cost::kAttention);
  const at::Tensor &q_TX = queries.q_TX, &weights_TH = queries.weights_TH;
  const int64_t width = indexer.heads * indexer.dim;
  TORCH_CHECK(q_TX.is_contiguous() && q_TX.size(1) == width && weights_TH.is_contiguous() &&
                  weights_TH.size(1) == indexer.heads && indexer.dim % 2 == 0,
              "indexer: expected queries [T, ", width, "] and weights [T, ", indexer.heads,
              "], got ", q_TX.sizes(), " and ", weights_TH.sizes());
  int64_t longest = 0, pairs = 0;
  for (const auto& t : tokens) {
    longest = std::max(longest, t.limit);
    pairs += t.limit;
  }
  at::Tensor words_TW =
      at::empty({q_TX.size(0), NumBlocks(longest)}, q_TX.options().dtype(at::kShort));
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t grain = GrainFor(pairs * width / std::max<int64_t>(count, 1));
  ParallelFor(count, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(NumBlocks(longest) * kBlockKeys);
    for (int64_t i = begin; i < end; ++i) {
      const auto& t = tokens[i];
      GetKernels().typed<T>().index_scores(
          Data<T>(q_TX) + t.token * width, Data<float>(weights_TH) + t.token * indexer.heads,
          indexer.heads, indexer.dim, t.k_blocks, NumBlocks(t.limit), scores.data());
      Choose(scores.data(), t.limit, indexer.top_k,
             Data<uint16_t>(words_TW) + t.token * words_TW.size(1));
    }
  });
  return words_TW;
}
template at::Tensor SelectKeys<float>(const Indexer&, const Indexer::Queries&,
                                      const std::vector<SelectingToken<float>>&);
template at::Tensor SelectKeys<Bf16>(const Indexer&, const Indexer::Queries&,
                                     const std::vector<SelectingToken<Bf16>>&);

SelectedKeys SelectKeysOfRuns(const Indexer& indexer, const std::vector<PackedSequence>& runs) {
  SelectedKeys selected;
  selected.top_k = indexer.top_k;
  if (std::none_of(runs.begin(), runs.end(), [&](const PackedSequence& s) {
        return s.prefix_count + s.count > indexer.top_k;
      }))
    return selected;
  const at::Tensor keys_TD = indexer.keys_TD();
  const Indexer::Queries queries = indexer.queries();
  if (!keys_TD.is_cpu()) {
    selected.visible = ops::composite::SelectKeys(keys_TD, queries, indexer, runs);
    return selected;
  }
  DispatchFloat(keys_TD.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const RunBlocks<T> blocks(keys_TD, runs);
    std::vector<SelectingToken<T>> tokens;
    for (size_t i = 0; i < runs.size(); ++i)
      for (int64_t t = 0; t < runs[i].count; ++t)
        if (const int64_t limit = runs[i].prefix_count + t + 1; limit > indexer.top_k)
          tokens.push_back({runs[i].begin + t, limit, blocks.Of(i)});
    selected.words_TW = SelectKeys<T>(indexer, queries, tokens);
  });
  return selected;
}

}  // namespace rft
