// Every differentiable operation against finite differences, in float32.
#include <functional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"
#include "tests/tensor/gradient_check.h"

namespace rft {
namespace {

using testing::CheckGradients;
using testing::RandomParameter;
using testing::RandomTensor;

at::Tensor Ids(std::vector<int64_t> ids) { return at::tensor(ids, at::kLong); }

TEST(LinearTest, HasTheGradientOfItsInputAndOfEveryStackedPart) {
  Parameter a = RandomParameter("a", {10, 9}, 1), b = RandomParameter("b", {43, 9}, 2),
            c = RandomParameter("c", {3, 9}, 3);
  Weight w = Weight::Create({&a, &b, &c}, at::kFloat);
  CheckGradients(
      RandomTensor({5, 9}, 4), [&](const at::Tensor& x) { return ops::Linear(x, w); }, {&a, &b, &c},
      [&] { w.Repack(); });
}

TEST(LinearTest, AddsToAGradientThatIsThere) {
  Parameter a = RandomParameter("a", {4, 6}, 1);
  const Weight w = Weight::Create({&a}, at::kFloat);
  auto pass = [&](uint64_t seed) {
    ops::Linear(RandomTensor({3, 6}, seed).requires_grad_(true), w)
        .backward(RandomTensor({3, 4}, seed + 1));
    return a.grad.clone();
  };
  const at::Tensor first = pass(10);
  a.grad.zero_();
  const at::Tensor second = pass(20);
  EXPECT_TRUE((pass(10) - first - second).abs().max().item<double>() < 1e-6);
}

TEST(LinearTest, LeavesAPartWithoutGradientAlone) {
  Parameter a = RandomParameter("a", {4, 6}, 1), frozen = RandomParameter("frozen", {4, 6}, 2);
  frozen.grad = at::Tensor();
  const Weight w = Weight::Create({&frozen, &a}, at::kFloat);
  ops::Linear(RandomTensor({3, 6}, 3).requires_grad_(true), w).backward(RandomTensor({3, 8}, 4));
  EXPECT_FALSE(frozen.grad.defined());
  EXPECT_GT(a.grad.abs().max().item<double>(), 0.0);
}

TEST(LinearAddTest, HasTheGradientOfInputWeightAndResidual) {
  Parameter a = RandomParameter("a", {7, 6}, 1);
  Weight w = Weight::Create({&a}, at::kFloat);
  const at::Tensor residual = RandomTensor({5, 7}, 2), x = RandomTensor({5, 6}, 3);
  CheckGradients(
      x, [&](const at::Tensor& t) { return ops::LinearAdd(t, w, residual.clone()); }, {&a},
      [&] { w.Repack(); });
  CheckGradients(residual, [&](const at::Tensor& r) {
    return ops::LinearAdd(at::GradMode::is_enabled() ? x.clone().requires_grad_(true) : x, w, r);
  });
}

TEST(LinearAddTest, UpdatesTheResidualInPlaceWithoutGradient) {
  Parameter a = RandomParameter("a", {7, 6}, 1);
  const Weight w = Weight::Create({&a}, at::kFloat);
  const at::Tensor residual = RandomTensor({5, 7}, 2);
  at::NoGradGuard no_grad;
  EXPECT_EQ(ops::LinearAdd(RandomTensor({5, 6}, 3), w, residual).data_ptr(), residual.data_ptr());
}

TEST(LinearTest, RefusesAnInputOfAnotherWidthOrType) {
  Parameter a = RandomParameter("a", {7, 6}, 1);
  const Weight w = Weight::Create({&a}, at::kFloat);
  EXPECT_THROW(ops::Linear(RandomTensor({5, 7}, 2), w), c10::Error);
  EXPECT_THROW(ops::Linear(RandomTensor({5, 6}, 2).to(at::kBFloat16), w), c10::Error);
}

TEST(RmsNormTest, HasTheGradientOfInputAndWeight) {
  Parameter w = RandomParameter("w", {20}, 1);
  CheckGradients(
      RandomTensor({4, 20}, 2),
      [&](const at::Tensor& x) { return ops::RmsNorm(x, w.value, &w, 1e-5, at::kFloat); }, {&w});
}

TEST(RmsNormTest, SumsTheWeightGradientOverManyRowBlocks) {
  Parameter w = RandomParameter("w", {3}, 1);  // 600 rows: three partial sums
  CheckGradients(RandomTensor({600, 3}, 2, 2.0),
                 [&](const at::Tensor& x) { return ops::RmsNorm(x, w.value, &w, 0.5, at::kFloat); },
                 {&w});
}

class RotateHeadsTest : public ::testing::Test {
 protected:
  at::Tensor Rotate(const at::Tensor& qkv) {
    return ops::RotateHeads(qkv, layout_, norm_, positions_, angles_.cos(), angles_.sin());
  }

  const HeadLayout layout_{2, 1, 6};  // width 24
  ops::HeadNorm norm_;
  const at::Tensor positions_ = Ids({0, 4, 2, 4}), angles_ = RandomTensor({5, 3}, 1, 3.0);
};

TEST_F(RotateHeadsTest, HasTheGradientOfItsInput) {
  CheckGradients(RandomTensor({4, 24}, 2), [&](const at::Tensor& x) { return Rotate(x); });
}

TEST_F(RotateHeadsTest, HasTheGradientThroughHeadNorms) {
  Parameter q = RandomParameter("q_norm", {6}, 3), k = RandomParameter("k_norm", {6}, 4);
  norm_ = {q.value, k.value, &q, &k, 0.1};
  CheckGradients(RandomTensor({4, 24}, 2), [&](const at::Tensor& x) { return Rotate(x); },
                 {&q, &k});
}

TEST_F(RotateHeadsTest, LeavesTheValuesAlone) {
  at::NoGradGuard no_grad;
  const at::Tensor x = RandomTensor({4, 24}, 2), y = Rotate(x.clone());
  EXPECT_TRUE(at::equal(x.narrow(1, 18, 6), y.narrow(1, 18, 6)));
  EXPECT_FALSE(at::equal(x.narrow(1, 0, 18), y.narrow(1, 0, 18)));
}

TEST_F(RotateHeadsTest, RefusesAnotherWidthOrTooFewPositions) {
  EXPECT_THROW(Rotate(RandomTensor({4, 23}, 2)), c10::Error);
  EXPECT_THROW(Rotate(RandomTensor({5, 24}, 2)), c10::Error);
}

TEST(SwiGluTest, HasTheGradientOfGateAndUp) {
  CheckGradients(RandomTensor({4, 26}, 2, 2.0), [](const at::Tensor& x) { return ops::SwiGlu(x); });
}

// Runs both with gradients at the output; returns {output, gradient of each input} of the first and checks the second's bits.
void ExpectSameBits(const std::vector<at::Tensor>& inputs,
                    const std::vector<Parameter*>& parameters,
                    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& one,
                    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& other) {
  auto run = [&](const auto& f) {
    std::vector<at::Tensor> leaves, results;
    for (Parameter* p : parameters) p->grad.zero_();
    for (const at::Tensor& x : inputs) leaves.push_back(x.clone().requires_grad_(true));
    const at::Tensor y = f(leaves);
    y.backward(RandomTensor(y.sizes().vec(), 99).to(y.scalar_type()));
    results.push_back(y.detach());
    for (const at::Tensor& x : leaves) results.push_back(x.grad());
    for (Parameter* p : parameters) results.push_back(p->grad.clone());
    return results;
  };
  const std::vector<at::Tensor> a = run(one), b = run(other);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_GT(a[i].abs().sum().item<double>(), 0.0) << i;
    EXPECT_TRUE(at::equal(a[i], b[i])) << i;
  }
}

class RecomputedTest : public ::testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, RecomputedTest, ::testing::Values(at::kFloat, at::kBFloat16));

TEST_P(RecomputedTest, NormLinearIsLinearOfRmsNorm) {
  Parameter norm = RandomParameter("norm", {20}, 1), a = RandomParameter("a", {7, 20}, 2);
  const Weight w = Weight::Create({&a}, GetParam());
  ExpectSameBits(
      {RandomTensor({300, 20}, 3)}, {&norm, &a},
      [&](const auto& x) {
        return ops::Linear(ops::RmsNorm(x[0], norm.value, &norm, 1e-5, GetParam()), w);
      },
      [&](const auto& x) { return ops::NormLinear(x[0], norm.value, &norm, 1e-5, w); });
}

TEST_P(RecomputedTest, AResidualTakenFromANormHasTheSameGradients) {
  Parameter norm = RandomParameter("norm", {20}, 1), a = RandomParameter("a", {20, 20}, 2);
  const Weight w = Weight::Create({&a}, GetParam());
  const auto normed = [&](const at::Tensor& x, at::Tensor* residual) {
    return ops::RmsNorm(x, norm.value, &norm, 1e-5, GetParam(), residual);
  };
  const auto product = [&](const at::Tensor& x, at::Tensor* residual) {
    return ops::NormLinear(x, norm.value, &norm, 1e-5, w, residual);
  };
  for (const auto& op : {std::function<at::Tensor(const at::Tensor&, at::Tensor*)>(normed),
                         std::function<at::Tensor(const at::Tensor&, at::Tensor*)>(product)})
    ExpectSameBits(
        {RandomTensor({300, 20}, 3)}, {&norm, &a},
        [&](const auto& x) { return ops::LinearAdd(op(x[0], nullptr), w, x[0]); },
        [&](const auto& x) {
          at::Tensor residual;
          const at::Tensor y = op(x[0], &residual);
          EXPECT_TRUE(at::equal(residual, x[0]));
          return ops::LinearAdd(y, w, residual);
        });
}

TEST(AsFloatTest, WidensAndRoundsTheGradient) {
  const at::Tensor x = RandomTensor({7, 20}, 1).to(at::kBFloat16).requires_grad_(true);
  const at::Tensor dy = RandomTensor({7, 20}, 2), y = ops::AsFloat(x);
  y.backward(dy);
  EXPECT_TRUE(at::equal(y, x.to(at::kFloat)));
  EXPECT_TRUE(at::equal(x.grad(), dy.to(at::kBFloat16)));
}

TEST_P(RecomputedTest, SwiGluLinearAddIsLinearAddOfSwiGlu) {
  Parameter a = RandomParameter("a", {7, 20}, 2);
  const Weight w = Weight::Create({&a}, GetParam());
  const at::Tensor gate_up = RandomTensor({9, 40}, 3).to(GetParam());
  ExpectSameBits(
      {gate_up, RandomTensor({9, 7}, 4)}, {&a},
      [&](const auto& x) { return ops::LinearAdd(ops::SwiGlu(x[0]), w, x[1]); },
      [&](const auto& x) { return ops::SwiGluLinearAdd(x[0], w, x[1]); });
}

TEST_P(RecomputedTest, AFrozenWeightStillPassesTheGradientOn) {
  Parameter norm = RandomParameter("norm", {20}, 1), a = RandomParameter("a", {40, 20}, 2),
            b = RandomParameter("b", {20, 20}, 3);
  norm.grad = a.grad = b.grad = at::Tensor();
  const Weight up = Weight::Create({&a}, GetParam()), down = Weight::Create({&b}, GetParam());
  ExpectSameBits(
      {RandomTensor({5, 20}, 4)}, {},
      [&](const auto& x) {
        return ops::LinearAdd(
            ops::SwiGlu(ops::Linear(ops::RmsNorm(x[0], norm.value, &norm, 1e-5, GetParam()), up)),
            down, x[0]);
      },
      [&](const auto& x) {
        return ops::SwiGluLinearAdd(ops::NormLinear(x[0], norm.value, &norm, 1e-5, up), down, x[0]);
      });
}

TEST(EmbeddingTest, AddsTheGradientOfRepeatedIds) {
  Parameter p = RandomParameter("embedding", {5, 3}, 1);
  const at::Tensor g = RandomTensor({4, 3}, 2);
  const at::Tensor y = ops::Embedding(Ids({1, 3, 1, 0}), p.value, &p);
  y.backward(g);
  EXPECT_TRUE(at::equal(y[1], p.value[3]));
  EXPECT_TRUE(at::equal(p.grad[1], g[0] + g[2]));
  EXPECT_TRUE(at::equal(p.grad[3], g[1]));
  EXPECT_EQ(p.grad[4].abs().sum().item<double>(), 0.0);
}

TEST(SelectRowsTest, AddsTheGradientOfRepeatedRows) {
  CheckGradients(RandomTensor({4, 3}, 1), [](const at::Tensor& x) {
    return ops::SelectRows(x, Ids({2, 0, 2, 2}));
  });
}

class TokenLogprobsTest : public ::testing::Test {
 protected:
  Parameter head_ = RandomParameter("head", {50, 6}, 1);
  Weight weight_ = Weight::Create({&head_}, at::kFloat);
  const at::Tensor targets_ = Ids({3, 49, 0, 3});
  const at::Tensor hidden_ = RandomTensor({4, 6}, 2, 2.0);
};

TEST_F(TokenLogprobsTest, IsTheLogSoftmaxOfTheProjectionAtATemperature) {
  for (double temperature : {1.0, 0.6, 2.0}) {
    at::Tensor entropy;
    const at::Tensor y = ops::TokenLogprobs(hidden_, weight_, targets_, temperature, &entropy);
    const at::Tensor all = at::log_softmax(
        hidden_.to(at::kDouble).matmul(head_.value.to(at::kDouble).t()) / temperature, 1);
    EXPECT_LT((y - all.gather(1, targets_.unsqueeze(1)).squeeze(1)).abs().max().item<double>(),
              1e-5);
    EXPECT_LT((entropy + (all.exp() * all).sum(1)).abs().max().item<double>(), 1e-5);
  }
}

TEST_F(TokenLogprobsTest, HasTheGradientOfHiddenStatesAndHeadAtATemperature) {
  for (double temperature : {1.0, 0.6}) {
    head_.grad.zero_();
    CheckGradients(
        hidden_,
        [&](const at::Tensor& x) { return ops::TokenLogprobs(x, weight_, targets_, temperature); },
        {&head_}, [&] { weight_.Repack(); });
  }
}

TEST_F(TokenLogprobsTest, HasTheGradientOfTheEntropyToo) {
  for (double temperature : {1.0, 0.6}) {
    head_.grad.zero_();
    CheckGradients(
        hidden_,
        [&](const at::Tensor& x) {
          at::Tensor entropy;
          const at::Tensor y = ops::TokenLogprobs(x, weight_, targets_, temperature, &entropy);
          return y + 0.7 * entropy;
        },
        {&head_}, [&] { weight_.Repack(); });
  }
}

TEST_F(TokenLogprobsTest, RefusesATemperatureThatIsNotPositive) {
  EXPECT_THROW(ops::TokenLogprobs(hidden_, weight_, targets_, 0.0), c10::Error);
}

// A vocabulary so large that 17 rows take two chunks of logits.
class LargeVocabularyTest : public ::testing::Test {
 protected:
  static constexpr int64_t kVocab = 1 << 20, kRows = 17;

  LargeVocabularyTest() {
    head_.value.narrow(0, 0, 1000).copy_(RandomTensor({1000, 4}, 1));
    weight_.Repack();
  }
  at::Tensor Logprobs(const at::Tensor& hidden) {
    return ops::TokenLogprobs(hidden, weight_, Ids(std::vector<int64_t>(hidden.size(0), 7)), 1.0);
  }

  Parameter head_{"head", at::zeros({kVocab, 4}), at::Tensor()};
  Weight weight_ = Weight::Create({&head_}, at::kFloat);
  const at::Tensor hidden_ = RandomTensor({kRows, 4}, 2, 3.0);
};

TEST_F(LargeVocabularyTest, GivesARowTheSameBitsInEveryChunk) {
  ASSERT_EQ(ops::LogitsChunkRows(kVocab), 16);
  auto pass = [&](const at::Tensor& hidden) {
    at::Tensor leaf = hidden.clone().requires_grad_(true);
    const at::Tensor y = Logprobs(leaf);
    y.sum().backward();
    return std::pair(y.detach(), leaf.grad());
  };
  const auto together = pass(hidden_);
  for (int64_t row : {int64_t{0}, kRows - 1}) {
    const auto alone = pass(hidden_.narrow(0, row, 1));
    EXPECT_TRUE(at::equal(together.first.narrow(0, row, 1), alone.first));
    EXPECT_TRUE(at::equal(together.second.narrow(0, row, 1), alone.second));
    const at::Tensor logits = hidden_[row].to(at::kDouble).matmul(head_.value.to(at::kDouble).t());
    EXPECT_NEAR(alone.first.item<double>(), at::log_softmax(logits, 0)[7].item<double>(),
                5e-4);  // 2^20 terms in float32
  }
}

TEST_F(LargeVocabularyTest, GivesASecondBackwardOfAKeptGraphTheSameGradient) {
  at::Tensor leaf = hidden_.clone().requires_grad_(true);
  const at::Tensor loss = Logprobs(leaf).sum();
  loss.backward({}, /*retain_graph=*/true);
  const at::Tensor first = leaf.grad().clone();
  leaf.mutable_grad().zero_();
  loss.backward();
  EXPECT_TRUE(at::equal(leaf.grad(), first));
  EXPECT_GT(first.abs().sum().item<double>(), 0.0);
}

}  // namespace
}  // namespace rft
