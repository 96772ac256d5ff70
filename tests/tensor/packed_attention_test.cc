#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "rft/tensor/attention.h"
#include "rft/tensor/parallel.h"
#include "tests/tensor/gradient_check.h"

namespace rft {
namespace {

using testing::RandomTensor;

const HeadLayout kLayout{4, 2, 6};  // width 48
constexpr double kScale = 0.4;

at::Tensor Attend(const at::Tensor& qkv, const std::vector<PackedSequence>& runs) {
  return PackedAttention(runs).Attend(0, qkv, kLayout, kScale);
}

// A prompt of 5 with answers of 3, 1 and 4 tokens, then an unrelated sequence of 2. 15 rows.
std::vector<PackedSequence> Group() {
  return {{.begin = 0, .count = 5},
          {.begin = 5, .count = 3, .prefix_begin = 0, .prefix_count = 5},
          {.begin = 8, .count = 1, .prefix_begin = 0, .prefix_count = 5},
          {.begin = 9, .count = 4, .prefix_begin = 0, .prefix_count = 5},
          {.begin = 13, .count = 2, .group = 4}};
}

// The same with runs so long that prefix and answers span several blocks of 16 keys. 96 rows.
std::vector<PackedSequence> LongGroup() {
  return {{.begin = 0, .count = 37},
          {.begin = 37, .count = 21, .prefix_begin = 0, .prefix_count = 37},
          {.begin = 58, .count = 38, .prefix_begin = 0, .prefix_count = 37}};
}

// Rows of run `i` with its prefix's rows in front: the sequence on its own.
at::Tensor Unshared(const at::Tensor& x, const PackedSequence& run) {
  return at::cat(
      {x.narrow(0, run.prefix_begin, run.prefix_count), x.narrow(0, run.begin, run.count)});
}

TEST(PackedAttentionTest, HasTheGradientOfQueriesKeysAndValues) {
  testing::CheckGradients(RandomTensor({15, 48}, 1, 2.0),
                          [](const at::Tensor& x) { return Attend(x, Group()); });
}

TEST(PackedAttentionTest, GivesSharedPrefixesTheBitsOfUnsharedOnes) {
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = RandomTensor({96, 48}, 2, 2.0).to(dtype),
                     together = Attend(x, LongGroup());
    for (const PackedSequence& run : LongGroup()) {
      const at::Tensor alone =
          Attend(Unshared(x, run), {{.begin = 0, .count = run.prefix_count + run.count}});
      EXPECT_TRUE(at::equal(together.narrow(0, run.begin, run.count),
                            alone.narrow(0, run.prefix_count, run.count)));
    }
  }
}

TEST(PackedAttentionTest, SumsThePrefixGradientOverTheGroup) {
  at::Tensor x = RandomTensor({96, 48}, 3, 2.0), shared = x.clone().requires_grad_(true),
             unshared = x.clone().requires_grad_(true);
  const at::Tensor g = RandomTensor({96, 24}, 4);
  Attend(shared, LongGroup()).backward(g);
  at::Tensor total;
  for (const PackedSequence& run : LongGroup()) {
    const at::Tensor y =
        Attend(Unshared(unshared, run), {{.begin = 0, .count = run.prefix_count + run.count}});
    const at::Tensor part =
        (y.narrow(0, run.prefix_count, run.count) * g.narrow(0, run.begin, run.count)).sum();
    total = total.defined() ? total + part : part;
  }
  total.backward();
  EXPECT_LT((shared.grad() - unshared.grad()).abs().max().item<double>(), 1e-5);
}

TEST(PackedAttentionTest, IsCausal) {
  const at::Tensor x = RandomTensor({15, 48}, 1);
  at::Tensor changed = x.clone();
  changed.narrow(0, 7, 1).add_(1.0);  // the last token of the first answer
  const at::Tensor y = Attend(x, Group()), z = Attend(changed, Group());
  EXPECT_TRUE(at::equal(y.narrow(0, 0, 7), z.narrow(0, 0, 7)));
  EXPECT_FALSE(at::equal(y.narrow(0, 7, 1), z.narrow(0, 7, 1)));
  EXPECT_TRUE(at::equal(y.narrow(0, 8, 7), z.narrow(0, 8, 7)));
}

TEST(PackedAttentionTest, GivesTheSameGradientForEveryThreadCount) {
  const at::Tensor x = RandomTensor({96, 48}, 3), g = RandomTensor({96, 24}, 4);
  auto gradient = [&](int threads) {
    SetNumThreads(threads);
    at::Tensor leaf = x.clone().requires_grad_(true);
    Attend(leaf, LongGroup()).backward(g);
    SetNumThreads(0);
    return leaf.grad();
  };
  EXPECT_TRUE(at::equal(gradient(1), gradient(2)));
}

TEST(PackedAttentionTest, RefusesRunsThatAreNoGroup) {
  const std::vector<std::vector<PackedSequence>> bad = {
      {{.begin = 0, .count = 0}},                                        // an empty run
      {{.begin = 0, .count = 4, .prefix_begin = 0, .prefix_count = 2}},  // a prefix before any run
      {{.begin = 0, .count = 4}, {.begin = 4, .count = 2}},  // a second run without prefix
      {{.begin = 0, .count = 4},
       {.begin = 4, .count = 2, .prefix_begin = 1, .prefix_count = 3}},  // not from its start
      {{.begin = 0, .count = 4},
       {.begin = 4, .count = 2, .prefix_begin = 0, .prefix_count = 5}},  // longer than the run
      {{.begin = 0, .count = 4},
       {.begin = 4, .count = 2, .prefix_begin = 0, .prefix_count = 4},
       {.begin = 6, .count = 2, .prefix_begin = 0, .prefix_count = 3}}};  // of two lengths
  for (const auto& runs : bad)
    EXPECT_THROW(PackedAttention{runs}, c10::Error) << &runs - bad.data();
}

TEST(PackedAttentionTest, RefusesRowsOfAnotherWidth) {
  EXPECT_THROW(Attend(RandomTensor({2, 47}, 1), {{.begin = 0, .count = 2}}), c10::Error);
}

}  // namespace
}  // namespace rft
