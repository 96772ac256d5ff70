// The grouped products against one product per expert, and their gradients against finite differences.
#include "rft/tensor/experts.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "rft/core/rng.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"
#include "tests/tensor/gradient_check.h"
#include "tests/tensor/thread_count.h"

namespace rft {
namespace {

using testing::CheckGradients;
using testing::RandomParameter;
using testing::RandomTensor;

class ExpertsTest : public ::testing::Test {
 protected:
  void Build(int64_t experts, int64_t hidden, int64_t width, at::ScalarType dtype = at::kFloat) {
    dtype_ = dtype;
    parameters_.reserve(3 * experts);
    for (int64_t e = 0; e < experts; ++e) {
      const auto seed = static_cast<uint64_t>(10 * e);
      parameters_.push_back(RandomParameter("gate", {width, hidden}, seed + 1));
      parameters_.push_back(RandomParameter("up", {width, hidden}, seed + 2));
      parameters_.push_back(RandomParameter("down", {hidden, width}, seed + 3));
    }
    Pack();
  }
  void Pack() {
    std::vector<std::vector<Parameter*>> gate_up;
    std::vector<Parameter*> down;
    for (size_t i = 0; i < parameters_.size(); i += 3) {
      gate_up.push_back({&parameters_[i], &parameters_[i + 1]});
      down.push_back(&parameters_[i + 2]);
    }
    weights_.Pack(gate_up, down, dtype_);
  }
  // `k` distinct experts per token, ascending.
  at::Tensor Choose(int64_t tokens, int64_t k, uint64_t seed) const {
    at::Tensor experts = at::zeros({tokens, k}, at::kInt);
    const auto num = static_cast<uint64_t>(weights_.num_experts());
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<int32_t> ids;
      for (uint64_t i = 0; static_cast<int64_t>(ids.size()) < k; ++i) {
        const auto id = static_cast<int32_t>(BitsAt(seed, t, i) % num);
        if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
      }
      std::sort(ids.begin(), ids.end());
      std::copy(ids.begin(), ids.end(), Data<int32_t>(experts) + t * k);
    }
    return experts;
  }
  at::Tensor Apply(const at::Tensor& x, const at::Tensor& experts, const at::Tensor& gates) const {
    at::NoGradGuard no_grad;
    return ops::ExpertsAdd(x, experts, gates, weights_, at::zeros(x.sizes(), at::kFloat));
  }

  at::ScalarType dtype_ = at::kFloat;
  std::vector<Parameter> parameters_;
  ExpertWeights weights_;
};

TEST_F(ExpertsTest, AddsEachTokensExpertsWithTheirWeights) {
  Build(5, 32, 48);
  const at::Tensor x = RandomTensor({70, 32}, 1), gates = RandomTensor({70, 2}, 2),
                   experts = Choose(70, 2, 3), y = Apply(x, experts, gates);
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> outputs;
  for (int64_t e = 0; e < 5; ++e)
    outputs.push_back(
        ops::Linear(ops::SwiGlu(ops::Linear(x, weights_.gate_up[e])), weights_.down[e]));
  for (int64_t t = 0; t < 70; ++t) {
    at::Tensor want = at::zeros({32}, at::kFloat);
    for (int64_t j = 0; j < 2; ++j)
      want += outputs[experts[t][j].item<int64_t>()][t] * gates[t][j].item<float>();
    EXPECT_LT((y[t] - want).abs().max().item<double>(), 1e-4 * want.abs().max().item<double>());
  }
}

TEST_F(ExpertsTest, GivesARowTheSameBitsInEveryBatchAndOnEveryNumberOfThreads) {
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    parameters_.clear();
    weights_ = {};
    Build(6, 96, 112, dtype);
    const at::Tensor x = RandomTensor({1100, 96}, 1).to(dtype), gates = RandomTensor({1100, 3}, 2),
                     experts = Choose(1100, 3, 3);
    at::Tensor whole;
    {
      const testing::ThreadCount two{2};
      whole = Apply(x, experts, gates);
    }
    const testing::ThreadCount one{1};
    EXPECT_TRUE(at::equal(whole, Apply(x, experts, gates)));
    for (int64_t t : {0, 7, 511, 512, 1099})
      EXPECT_TRUE(at::equal(whole.narrow(0, t, 1), Apply(x.narrow(0, t, 1), experts.narrow(0, t, 1),
                                                         gates.narrow(0, t, 1))));
  }
}

TEST_F(ExpertsTest, HasTheGradientOfInputGateWeightsAndEveryExpert) {
  Build(4, 6, 5);
  const at::Tensor experts = Choose(7, 2, 3), gates = RandomTensor({7, 2}, 2),
                   x = RandomTensor({7, 6}, 1, 0.5), residual = at::zeros({7, 6}, at::kFloat);
  std::vector<Parameter*> parameters;
  for (Parameter& p : parameters_) parameters.push_back(&p);
  auto apply = [&](const at::Tensor& input, const at::Tensor& weights) {
    return ops::ExpertsAdd(input, experts, weights, weights_, residual.clone());
  };
  CheckGradients(
      x, [&](const at::Tensor& t) { return apply(t, gates); }, parameters, [&] { Pack(); });
  CheckGradients(gates, [&](const at::Tensor& w) {
    return apply(at::GradMode::is_enabled() ? x.clone().requires_grad_(true) : x, w);
  });
}

// So many tokens that every limit on rows kept in the cache is passed, and widths that no kernel's lanes divide.
TEST_F(ExpertsTest, HasTheGradientOfALongBatchThatAutogradHas) {
  constexpr int64_t kTokens = 2100, kHidden = 70, kWidth = 38;
  const testing::ThreadCount two{2};
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    parameters_.clear();
    weights_ = {};
    Build(3, kHidden, kWidth, dtype);
    const at::Tensor experts = Choose(kTokens, 2, 3), gates = RandomTensor({kTokens, 2}, 2),
                     x = RandomTensor({kTokens, kHidden}, 1).to(dtype),
                     g = RandomTensor({kTokens, kHidden}, 4);
    const at::Tensor input = x.clone().requires_grad_(true),
                     weights = gates.clone().requires_grad_(true);
    ops::ExpertsAdd(input, experts, weights, weights_, at::zeros({kTokens, kHidden}, at::kFloat))
        .backward(g);
    // In double, an expert after another.
    const at::Tensor x64 = x.to(at::kDouble).requires_grad_(true),
                     gates64 = gates.to(at::kDouble).requires_grad_(true);
    at::Tensor y = at::zeros({kTokens, kHidden}, at::kDouble);
    std::vector<at::Tensor> leaves;
    for (const Parameter& p : parameters_)
      leaves.push_back(p.value.to(dtype).to(at::kDouble).requires_grad_(true));
    for (int64_t e = 0; e < 3; ++e) {
      const at::Tensor gate_T = (gates64 * experts.eq(e)).sum(1, true),
                       a = x64.matmul(leaves[3 * e].t()), b = x64.matmul(leaves[3 * e + 1].t());
      y = y + (a * a.sigmoid() * b).matmul(leaves[3 * e + 2].t()) * gate_T;
    }
    y.backward(g.to(at::kDouble));
    const double tolerance = dtype == at::kFloat ? 2e-6 : 2e-2;
    const auto expect_close = [&](const at::Tensor& got, const at::Tensor& want) {
      EXPECT_LE((got.to(at::kDouble) - want).norm().item<double>(),
                tolerance * want.norm().item<double>());
    };
    expect_close(input.grad(), x64.grad());
    expect_close(weights.grad(), gates64.grad());
    for (size_t i = 0; i < leaves.size(); ++i) expect_close(parameters_[i].grad, leaves[i].grad());
  }
}

TEST_F(ExpertsTest, HasTheSameGradientBitsOnEveryNumberOfThreads) {
  Build(4, 64, 64);
  const at::Tensor experts = Choose(600, 2, 3), gates = RandomTensor({600, 2}, 2),
                   x = RandomTensor({600, 64}, 1), g = RandomTensor({600, 64}, 4);
  auto gradients = [&](int threads) {
    const testing::ThreadCount count{threads};
    for (Parameter& p : parameters_) p.grad.zero_();
    at::Tensor input = x.clone().requires_grad_(true);
    ops::ExpertsAdd(input, experts, gates, weights_, at::zeros({600, 64}, at::kFloat)).backward(g);
    std::vector<at::Tensor> all = {input.grad()};
    for (const Parameter& p : parameters_) all.push_back(p.grad.clone());
    return all;
  };
  const auto one = gradients(1), two = gradients(2);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i]));
}

TEST_F(ExpertsTest, RefusesAnExpertThatIsNotThere) {
  Build(3, 8, 8);
  EXPECT_THROW(Apply(RandomTensor({1, 8}, 1), at::tensor(std::vector<int32_t>{3}).view({1, 1}),
                     RandomTensor({1, 1}, 2)),
               c10::Error);
}

}  // namespace
}  // namespace rft
