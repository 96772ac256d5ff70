// A forward that is told which rows are read: they have the bits of a forward of all, and the same gradient.
#include <algorithm>
#include <functional>
#include <memory>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "rft/tensor/attention.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/gradient_check.h"

namespace rft {
namespace {

using testing::Family;

constexpr int64_t kTokens = 60;

class WantedRowsTest : public ::testing::TestWithParam<std::tuple<Family, at::ScalarType>> {
 protected:
  at::Tensor Forward(Routing* routing, const at::Tensor& rows_N = {}) {
    const std::vector<TokenId> ids = testing::RandomIds(kTokens, 7);
    attention_ = std::make_unique<PackedAttention>(std::vector<PackedSequence>{
        {.begin = 0, .count = 40},
        {.begin = 40, .count = 20, .prefix_begin = 0, .prefix_count = 40}});
    return model_->forward(*model_->weights(),
                           at::tensor(std::vector<int64_t>(ids.begin(), ids.end()), at::kLong),
                           at::arange(kTokens, at::kLong), *attention_, routing, rows_N);
  }
  // The gradients of sum(hidden_NH * g_NH), of every parameter.
  std::vector<at::Tensor> Gradients(const std::function<at::Tensor()>& forward) {
    model_->parameters().EnableGradients();
    model_->parameters().ZeroGradients();
    const at::Tensor hidden_NH = forward();
    hidden_NH.backward(testing::RandomTensor({hidden_NH.size(0), hidden_NH.size(1)}, 5)
                           .to(hidden_NH.scalar_type()));
    std::vector<at::Tensor> all;
    for (const Parameter& p : model_->parameters().all()) all.push_back(p.grad.clone());
    return all;
  }

  std::unique_ptr<PackedAttention> attention_;  // as long as its backward
  // In no order, one twice; and of every row but one, which isn't worth a narrower layer.
  const at::Tensor few_N_ = at::tensor(std::vector<int64_t>{59, 3, 17, 17, 40, 0}, at::kLong),
                   most_N_ = at::arange(1, kTokens, at::kLong);
  const std::shared_ptr<CausalLm> model_ =
      testing::MakeTinyModel(std::get<0>(GetParam()), std::get<1>(GetParam()));
};

TEST_P(WantedRowsTest, HaveTheBitsOfAForwardOfAll) {
  const at::NoGradGuard no_grad;
  Routing routing{.capture = true};
  const at::Tensor all_TH = Forward(&routing);
  Routing replay{.replay_TMK = routing.used_TMK, .summarize = true};
  for (const at::Tensor& rows_N : {few_N_, most_N_})
    for (Routing* r : {static_cast<Routing*>(nullptr), &routing, &replay})
      EXPECT_TRUE(at::equal(Forward(r, rows_N), all_TH.index_select(0, rows_N)));
}

TEST_P(WantedRowsTest, HaveTheGradientOfAForwardOfAll) {
  const auto want = Gradients([&] { return Forward(nullptr).index_select(0, few_N_); }),
             got = Gradients([&] { return Forward(nullptr, few_N_); });
  // Sums of other tokens, of which a few are rounded once more in bf16.
  const double tolerance = model_->dtype() == at::kFloat ? 2e-6 : 2e-2;
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_LE((got[i] - want[i]).norm().item<double>(), tolerance * want[i].norm().item<double>())
        << model_->parameters().all()[i].name;
}

class RoutedRowsTest : public WantedRowsTest {};

TEST_P(RoutedRowsTest, AreThoseThatTheLastLayerRoutes) {
  const at::NoGradGuard no_grad;
  const int64_t layers = std::count(model_->config().moe->sparse_layers.begin(),
                                    model_->config().moe->sparse_layers.end(), true);
  Routing all{.summarize = true}, few{.summarize = true};
  Forward(&all);
  Forward(&few, few_N_);
  EXPECT_EQ(all.sums.pairs, static_cast<double>(layers * kTokens));
  EXPECT_EQ(few.sums.pairs, static_cast<double>((layers - 1) * kTokens + few_N_.size(0)));
  // A penalty is on all that are routed, and a record tells of all.
  Routing penalised{.penalty = {.z = 1.0}, .summarize = true}, recorded{.capture = true};
  Forward(&penalised, few_N_);
  EXPECT_EQ(penalised.sums.pairs, all.sums.pairs);
  Forward(&recorded, few_N_);
  EXPECT_EQ(recorded.used_TMK.size(0), kTokens);
}

std::string CaseName(const ::testing::TestParamInfo<WantedRowsTest::ParamType>& info) {
  const auto [family, dtype] = info.param;
  return testing::FamilyName(family) + (dtype == at::kFloat ? "_fp32" : "_bf16");
}
const auto kDtypes = ::testing::Values(at::kFloat, at::kBFloat16);
INSTANTIATE_TEST_SUITE_P(Models, WantedRowsTest,
                         ::testing::Combine(::testing::Values(Family::kLlama, Family::kQwen3,
                                                              Family::kQwen3Moe),
                                            kDtypes),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Models, RoutedRowsTest,
                         ::testing::Combine(::testing::Values(Family::kQwen3Moe), kDtypes),
                         CaseName);

}  // namespace
}  // namespace rft
