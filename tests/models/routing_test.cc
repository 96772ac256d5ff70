// The penalty on the router: its gradient is that of the two losses which the metrics report.
#include "rft/models/routing.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "rft/tensor/dispatch.h"
#include "tests/tensor/gradient_check.h"

namespace rft {
namespace {

constexpr int64_t kTokens = 5, kExperts = 6;
constexpr RouterPenalty kPenalty = {.load_balance = 0.5, .z = 0.25, .weight = 3.0};

class RouterPenaltyTest : public ::testing::TestWithParam<RouterConfig::Score> {
 protected:
  // Experts are given, so that a step of a difference changes no choice: the loss is differentiated with the loads held.
  Routing Given() const {
    Routing routing;
    routing.penalty = kPenalty;
    routing.summarize = true;
    routing.replay_TMK = at::zeros({kTokens, 1, 2}, at::kInt);
    for (int64_t t = 0; t < kTokens; ++t)
      Data<int32_t>(routing.replay_TMK)[2 * t + 1] = static_cast<int32_t>(1 + t % 3);
    return routing;
  }

  const RouterConfig config_ = {.num_experts = kExperts, .top_k = 2, .score = GetParam()};
  const at::Tensor logits_TE_ = testing::RandomTensor({kTokens, kExperts}, 4);
};

TEST_P(RouterPenaltyTest, HasTheGradientOfLoadBalanceAndZ) {
  Routing routing = Given();
  const at::Tensor x_TE = logits_TE_.clone().requires_grad_();
  const at::Tensor out_TE = WithPenalty(x_TE, config_, &routing);
  ChooseOrReplay(logits_TE_, {}, config_, 0, 1, &routing);
  out_TE.backward(at::zeros_like(out_TE));
  const auto loss = [&] {
    Routing moved = Given();
    ChooseOrReplay(logits_TE_, {}, config_, 0, 1, &moved);
    return kPenalty.weight * (kPenalty.load_balance * moved.sums.LoadBalance() +
                              kPenalty.z * moved.sums.squared_log_sum / moved.sums.pairs);
  };
  for (int64_t i = 0; i < kTokens * kExperts; ++i)
    EXPECT_NEAR(Data<float>(x_TE.grad())[i],
                testing::CentralDifference(Data<float>(logits_TE_)[i], 1e-2f, loss), 1e-4)
        << i;
}

INSTANTIATE_TEST_SUITE_P(Scores, RouterPenaltyTest,
                         ::testing::Values(RouterConfig::Score::kSoftmax,
                                           RouterConfig::Score::kSigmoid),
                         [](const auto& info) {
                           return info.param == RouterConfig::Score::kSoftmax ? "Softmax"
                                                                              : "Sigmoid";
                         });

}  // namespace
}  // namespace rft
