// Attention to selected keys: scores against a plain sum in double on every table, which keys are kept, and that it doesn't matter how
// tokens are packed. Values and gradients of attention over them: composite_test.cc, and transformers in tests/python/test_moe.py.
#include "rft/tensor/key_selection.h"

#include <array>
#include <stdexcept>

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include "rft/tensor/attention.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/key_blocks.h"
#include "tests/tensor/gradient_check.h"
#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using testing::As;
using testing::KernelTest;
using testing::RandomRow;
using testing::RandomTensor;

template <typename T>
void CheckScores(const TypedKernels<T>& kernels, int64_t heads, int64_t dim, int64_t keys) {
  const std::vector<T> q = As<T>(RandomRow(heads * dim, 1)), k = As<T>(RandomRow(keys * dim, 2));
  const std::vector<float> weights = RandomRow(heads, 3);
  const int64_t blocks = RoundUp(keys, kBlockKeys) / kBlockKeys, block = KeyBlockElements<T>(dim);
  std::vector<T> memory(blocks * block);
  std::vector<const T*> k_blocks;
  for (int64_t b = 0; b < blocks; ++b) k_blocks.push_back(memory.data() + b * block);
  for (int64_t j = 0; j < keys; ++j)
    StoreKey(k.data() + j * dim, dim, j % kBlockKeys, memory.data() + j / kBlockKeys * block);
  std::vector<float> scores(blocks * kBlockKeys);
  kernels.index_scores(q.data(), weights.data(), heads, dim, k_blocks.data(), blocks,
                       scores.data());
  for (int64_t j = 0; j < keys; ++j) {
    double expected = 0.0;
    for (int64_t h = 0; h < heads; ++h) {
      double dot = 0.0;
      for (int64_t i = 0; i < dim; ++i)
        dot += static_cast<double>(ToFloat(q[h * dim + i])) * ToFloat(k[j * dim + i]);
      expected += weights[h] * std::max(dot, 0.0);
    }
    ASSERT_NEAR(scores[j], expected, 1e-5) << "key " << j << " of " << keys;
  }
}

class IndexScoresKernelTest : public KernelTest {};

TEST_P(IndexScoresKernelTest, AreTheWeightedSumOfWhatIsPositive) {
  for (const auto& [heads, dim, keys] :
       {std::array<int64_t, 3>{8, 16, 40}, {3, 6, 16}, {13, 20, 5}}) {
    CheckScores(GetParam()->f32, heads, dim, keys);
    CheckScores(GetParam()->bf16, heads, dim, keys);
  }
}
RFT_FOR_ALL_KERNELS(IndexScoresKernelTest);

const HeadLayout kLayout{4, 2, 6};  // width 48

Indexer RandomIndexer(int64_t tokens, int64_t top_k) {
  const at::Tensor keys = RandomTensor({tokens, 16}, 11), q = RandomTensor({tokens, 8 * 16}, 12),
                   weights = RandomTensor({tokens, 8}, 13);
  return {8, 16, top_k, [=] { return keys; }, [=] { return Indexer::Queries{q, weights}; }};
}

at::Tensor Rows(const at::Tensor& x, const PackedSequence& run) {
  return at::cat(
      {x.narrow(0, run.prefix_begin, run.prefix_count), x.narrow(0, run.begin, run.count)});
}

TEST(KeySelectionTest, OfEqualScoresKeepsTheEarlierKeys) {
  Indexer indexer = RandomIndexer(40, 5);
  indexer.queries = [] { return Indexer::Queries{at::zeros({40, 8 * 16}), at::zeros({40, 8})}; };
  const SelectedKeys selected = SelectKeysOfRuns(indexer, {{.begin = 0, .count = 40}});
  EXPECT_EQ(selected.Of(4, 5), nullptr);  // sees no more than that
  for (int64_t t = 5; t < 40; ++t) {
    const uint16_t* words = selected.Of(t, t + 1);
    ASSERT_NE(words, nullptr);
    EXPECT_EQ(words[0], 0b11111);
    for (int64_t w = 1; w <= t / 16; ++w) EXPECT_EQ(words[w], 0);
  }
}

TEST(KeySelectionTest, GivesSharedPrefixesTheBitsOfUnsharedOnes) {
  const std::vector<PackedSequence> runs = {
      {.begin = 0, .count = 37},
      {.begin = 37, .count = 21, .prefix_begin = 0, .prefix_count = 37},
      {.begin = 58, .count = 38, .prefix_begin = 0, .prefix_count = 37}};
  const at::Tensor qkv = RandomTensor({96, 48}, 1, 2.0);
  const Indexer indexer = RandomIndexer(96, 12);
  PackedAttention together(runs);
  together.Select(0, indexer);
  const at::Tensor out = together.Attend(0, qkv, kLayout, 0.4);
  for (const PackedSequence& run : runs) {
    const int64_t count = run.prefix_count + run.count;
    PackedAttention alone({{.begin = 0, .count = count}});
    alone.Select(0, {8, 16, 12, [&] { return Rows(indexer.keys_TD(), run); },
                     [&] {
                       const Indexer::Queries all = indexer.queries();
                       return Indexer::Queries{Rows(all.q_TX, run), Rows(all.weights_TH, run)};
                     }});
    const at::Tensor expected = alone.Attend(0, Rows(qkv, run), kLayout, 0.4);
    EXPECT_TRUE(at::equal(out.narrow(0, run.begin, run.count),
                          expected.narrow(0, run.prefix_count, run.count)));
  }
}

TEST(KeySelectionTest, LaterLayersAttendToWhatTheLastOneChose) {
  const at::Tensor qkv = RandomTensor({40, 48}, 1, 2.0);
  PackedAttention attention({{.begin = 0, .count = 40}});
  const at::Tensor all = attention.Attend(0, qkv, kLayout, 0.4);
  attention.Select(1, RandomIndexer(40, 4));
  const at::Tensor chosen = attention.Attend(1, qkv, kLayout, 0.4);
  attention.Select(3, RandomIndexer(40, 40));  // as many as there are
  EXPECT_FALSE(at::equal(chosen, all));
  EXPECT_TRUE(at::equal(attention.Attend(0, qkv, kLayout, 0.4), all));
  EXPECT_TRUE(at::equal(attention.Attend(2, qkv, kLayout, 0.4), chosen));
  EXPECT_TRUE(at::equal(attention.Attend(3, qkv, kLayout, 0.4), all));
}

TEST(KeySelectionTest, AsksForNothingWhereNoTokenSeesMoreKeys) {
  PackedAttention attention({{.begin = 0, .count = 12}});
  attention.Select(0,
                   {8, 16, 12, []() -> at::Tensor { throw std::logic_error("keys aren't needed"); },
                    []() -> Indexer::Queries { throw std::logic_error("nor queries"); }});
}

}  // namespace
}  // namespace rft
