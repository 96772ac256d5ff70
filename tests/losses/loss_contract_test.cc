// What every registered loss must keep, whatever its formula. A new losses/*.cc is covered as soon
// as it registers.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/losses/loss_rows.h"
#include "tests/testing/loss_golden.h"

namespace rft::testing {
namespace {

constexpr Aggregation kAggregations[] = {
    Aggregation::kTokenSum, Aggregation::kTokenMean, Aggregation::kSeqMeanTokenMean,
    Aggregation::kSeqMeanTokenSum, Aggregation::kSeqMeanTokenSumNorm};

class LossContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  // The defaults, with the other terms on so that they are covered too.
  LossConfig Config() const {
    LossConfig config = FindLoss(GetParam()).DefaultConfig();
    config.kl_coef = 0.05;
    config.entropy_coef = 0.01;
    config.sft_coef = 0.02;
    config.agg_norm = 11.0;
    return config;
  }
  bool Splits() const { return FindLoss(GetParam()).splits_over_calls(); }
  // Rows dealt to calls; one call for a loss that ranks the tokens of a call against each other.
  std::vector<std::vector<int>> Calls(int num_rows, std::mt19937_64* engine) const;
};

std::vector<std::vector<int>> RandomSplit(int num_rows, std::mt19937_64* engine) {
  std::vector<int> order(num_rows);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), *engine);
  std::vector<std::vector<int>> calls(1);
  for (int row : order) {
    if (!calls.back().empty() && (*engine)() % 3 == 0) calls.emplace_back();
    calls.back().push_back(row);
  }
  return calls;
}

std::vector<std::vector<int>> LossContractTest::Calls(int num_rows, std::mt19937_64* engine) const {
  std::vector<std::vector<int>> calls = RandomSplit(num_rows, engine);
  if (Splits()) return calls;
  for (size_t i = 1; i < calls.size(); ++i)
    calls[0].insert(calls[0].end(), calls[i].begin(), calls[i].end());
  calls.resize(1);
  return calls;
}

TEST_P(LossContractTest, IsFoundUnderItsOwnName) {
  EXPECT_EQ(FindLoss(GetParam()).DefaultConfig().name, GetParam());
}

TEST_P(LossContractTest, RandomSplitsAndOrdersGiveTheSameLossAndGradient) {
  std::mt19937_64 engine(7);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    LossConfig config = Config();
    config.aggregation = kAggregations[seed % std::size(kAggregations)];
    const std::vector<LossRow> rows = RandomRows(seed, 9);
    const LossResult whole = RunLoss(rows, config);
    const LossResult split = RunLossInCalls(rows, Calls(9, &engine), config);
    EXPECT_LE(RelativeDifference(split.loss, whole.loss), 1e-12);
    EXPECT_LE(GradientDifference(split.gradient, whole.gradient), 1e-12);
  }
}

TEST_P(LossContractTest, SplitsAndOrdersAgreeInFloat32) {
  std::mt19937_64 engine(8);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const std::vector<LossRow> rows = RandomRows(seed, 9);
    const LossResult whole = RunLoss(rows, Config(), at::kFloat);
    const LossResult split = RunLossInCalls(rows, Calls(9, &engine), Config(), at::kFloat);
    EXPECT_LE(GradientDifference(split.gradient, whole.gradient), 1e-6);
  }
}

TEST_P(LossContractTest, MetricSumsAddUpOverCalls) {
  const std::vector<LossRow> rows = RandomRows(3, 6);
  const LossOutput whole = RunLoss(rows, Config()).output;
  std::mt19937_64 engine(9);
  const LossOutput split = RunLossInCalls(rows, Calls(6, &engine), Config()).output;
  EXPECT_EQ(split.num_tokens, whole.num_tokens);
  EXPECT_EQ(split.num_rows, whole.num_rows);
  ASSERT_EQ(split.metric_sums.size(), whole.metric_sums.size());
  for (const auto& [name, sum] : whole.metric_sums)
    EXPECT_NEAR(split.metric_sums.at(name), sum, 1e-9) << name;
}

TEST_P(LossContractTest, WhatMaskedTokensHoldChangesNoBit) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  std::vector<LossRow> rows = RandomRows(4, 8);
  const LossResult before = RunLoss(rows, Config());
  const double poison[] = {-kInf, kNan, 1e300, -1e300};
  int next = 0;
  for (LossRow& row : rows) {
    for (size_t t = 0; t < row.mask.size(); ++t) {
      if (row.mask[t] != 0.0) continue;
      row.logp[t] = poison[next++ % 4];
      row.old_logp[t] = row.sampling_logp[t] = row.ref_logp[t] = row.advantage[t] = row.entropy[t] =
          poison[next % 4];
    }
  }
  const LossResult after = RunLoss(rows, Config());
  ASSERT_GT(next, 8);
  EXPECT_EQ(after.loss, before.loss);
  EXPECT_EQ(after.gradient, before.gradient);
  EXPECT_EQ(after.output.metric_sums, before.output.metric_sums);
}

TEST_P(LossContractTest, MaskedTokensHaveExactlyZeroGradient) {
  const std::vector<LossRow> rows = RandomRows(5, 8);
  const LossResult result = RunLoss(rows, Config());
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t t = 0; t < rows[r].mask.size(); ++t) {
      if (rows[r].mask[t] != 0.0) continue;
      EXPECT_EQ(result.gradient[r][t], 0.0);
    }
  }
}

TEST_P(LossContractTest, AllMaskedIsZeroAndNotNan) {
  std::vector<LossRow> rows = RandomRows(6, 3);
  for (LossRow& row : rows) row.mask.assign(row.mask.size(), 0.0);
  for (Aggregation aggregation : kAggregations) {
    LossConfig config = Config();
    config.aggregation = aggregation;
    const LossResult result = RunLoss(rows, config);
    EXPECT_EQ(result.loss, 0.0);
    if (config.row_denominator == RowDenominator::kActive) {
      EXPECT_EQ(result.output.denominator, 0.0);
    }
    EXPECT_TRUE(result.output.metric_maxima.empty());
    for (const auto& row : result.gradient) EXPECT_EQ(row, std::vector<double>(row.size(), 0.0));
  }
}

TEST_P(LossContractTest, ACallWithoutRowsIsZero) {
  const LossResult result = RunLoss({}, Config());
  EXPECT_EQ(result.loss, 0.0);
  EXPECT_EQ(result.output.num_tokens, 0.0);
}

// What a formula holds constant, sg(lp), stays where it was while lp moves.
TEST_P(LossContractTest, GradientMatchesFiniteDifferences) {
  constexpr double kStep = 1e-6;
  const LossConfig config = Config();
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::vector<LossRow> rows = RandomRows(100 + seed, 4);
    for (LossRow& row : rows) row.held_logp = row.logp;
    const LossResult result = RunLoss(rows, config);
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t t = 0; t < rows[r].logp.size(); ++t) {
        std::vector<LossRow> up = rows, down = rows;
        up[r].logp[t] += kStep;
        down[r].logp[t] -= kStep;
        const double slope = (RunLoss(up, config).loss - RunLoss(down, config).loss) / (2 * kStep);
        EXPECT_NEAR(result.gradient[r][t], slope, 1e-7)
            << "seed " << seed << " row " << r << " token " << t;
      }
    }
  }
}

TEST_P(LossContractTest, KeepsTheDtypeAndNeedsNoGradient) {
  for (at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    LossInput input = PackRows(RandomRows(9, 4), dtype);
    input.logprobs_T = input.logprobs_T.detach();
    const LossOutput output = FindLoss(GetParam()).forward(input, Config());
    EXPECT_EQ(output.sum.scalar_type(), dtype);
    EXPECT_FALSE(output.sum.requires_grad());
  }
}

TEST_P(LossContractTest, RejectsHalfPrecision) {
  LossInput input = PackRows(RandomRows(9, 4), at::kDouble);
  input.logprobs_T = input.logprobs_T.detach().to(at::kBFloat16);
  EXPECT_THROW(FindLoss(GetParam()).forward(input, Config()), c10::Error);
}

TEST_P(LossContractTest, RejectsAMaskOfAnotherLength) {
  LossInput input = PackRows(RandomRows(9, 4), at::kDouble);
  input.mask_T = input.mask_T.narrow(0, 0, input.mask_T.numel() - 1);
  EXPECT_THROW(FindLoss(GetParam()).forward(input, Config()), c10::Error);
}

TEST_P(LossContractTest, RejectsOffsetsThatDoNotCoverTheTokens) {
  LossInput input = PackRows(RandomRows(9, 4), at::kDouble);
  input.row_offsets_R1 = input.row_offsets_R1.narrow(0, 0, 4);
  EXPECT_THROW(FindLoss(GetParam()).forward(input, Config()), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(, LossContractTest, ::testing::ValuesIn(LossRegistry::Get().Names()),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::string MessageFor(const char* unknown) {
  try {
    FindLoss(unknown);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no c10::Error";
}

TEST(FindLossTest, SaysWhatAnUnknownNameMayHaveMeantOrListsTheKnownOnes) {
  EXPECT_EQ(MessageFor("gpro"), "unknown loss 'gpro'; did you mean 'grpo'?");
  EXPECT_EQ(MessageFor("trl.dapoo"), "unknown loss 'trl.dapoo'; did you mean 'trl.dapo'?");
  EXPECT_THAT(MessageFor("quicksort"),
              ::testing::HasSubstr("unknown loss 'quicksort'; known losses: cispo, clip-cov"));
}

}  // namespace
}  // namespace rft::testing
