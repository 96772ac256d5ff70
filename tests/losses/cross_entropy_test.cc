#include <limits>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/losses/loss_rows.h"

namespace rft::testing {
namespace {

class CrossEntropyLossTest : public ::testing::Test {
 protected:
  LossResult Run(const std::vector<LossRow>& rows) { return RunLoss(rows, config_); }

  static LossRow Row(std::vector<double> logp, std::vector<double> weights) {
    LossRow row;
    row.logp = row.old_logp = row.advantage = logp;
    row.mask = std::move(weights);
    return row;
  }

  LossConfig config_ = FindLoss("cross-entropy").DefaultConfig();
};

TEST_F(CrossEntropyLossTest, IsTheWeightedNegativeLogLikelihoodPerActiveToken) {
  const LossResult result = Run({Row({-1.0, -2.0, -8.0}, {1.0, 0.5, 0.0}), Row({-3.0}, {2.0})});
  EXPECT_DOUBLE_EQ(result.loss, (1.0 + 1.0 + 6.0) / 3.0);
  EXPECT_EQ(result.gradient[0], (std::vector<double>{-1.0 / 3.0, -0.5 / 3.0, 0.0}));
  EXPECT_EQ(result.gradient[1], (std::vector<double>{-2.0 / 3.0}));
}

TEST_F(CrossEntropyLossTest, SumsWithoutADenominatorWhenAsked) {
  config_.aggregation = Aggregation::kTokenSum;
  const LossResult result = Run({Row({-1.0, -2.0}, {1.0, 0.5})});
  EXPECT_DOUBLE_EQ(result.loss, 2.0);
  EXPECT_EQ(result.output.denominator, 0.0);
}

TEST_F(CrossEntropyLossTest, ReportsTheUnweightedLikelihood) {
  const LossOutput output = Run({Row({-1.0, -2.0}, {0.5, 0.5})}).output;
  EXPECT_DOUBLE_EQ(output.metric_sums.at("nll") / output.num_tokens, 1.5);
  EXPECT_DOUBLE_EQ(output.metric_maxima.at("nll_max"), 2.0);
  EXPECT_DOUBLE_EQ(output.metric_sums.at("weight_mean") / output.num_tokens, 0.5);
}

TEST_F(CrossEntropyLossTest, NeedsLogProbabilitiesAndWeightsOnly) {
  LossInput input = PackRows({Row({-1.0, -2.0}, {1.0, 1.0})}, at::kDouble);
  input.old_logprobs_T = input.advantages_T = at::Tensor();
  EXPECT_DOUBLE_EQ(FindLoss("cross-entropy").forward(input, config_).sum.item<double>(), 3.0);
}

TEST_F(CrossEntropyLossTest, RejectsNegativeAndNonFiniteWeights) {
  for (double weight :
       {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(Run({Row({-1.0}, {weight})}), c10::Error) << weight;
  }
}

}  // namespace
}  // namespace rft::testing
