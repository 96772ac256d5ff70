// Penalties, bias and masks: what is drawn from, against formulas in double; the recorded log-probability stays that of the
// unchanged logits to the bit. tests/python/test_sampling.py compares with transformers.
#include "rft/engine/guided_sampler.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::RandomRow;

constexpr int64_t kVocab = 70;

class GuidedSamplerTest : public ::testing::Test {
 protected:
  SampledToken Sample(double uniform) {
    return SampleGuided(
        logits_.data(), kVocab,
        {params_, tokens_, prompt_size_, forbidden_, allowed_.empty() ? nullptr : allowed_.data()},
        uniform);
  }
  void Allow(const std::vector<TokenId>& ids) {
    allowed_.assign(TokenBitWords(kVocab), 0);
    for (TokenId id : ids) allowed_[id / 32] |= 1u << (id % 32);
  }
  // Every draw over a grid of uniform numbers comes with the log-probability of softmax(changed).
  void ExpectDistribution(std::vector<double> changed) {
    const double max = *std::max_element(changed.begin(), changed.end());
    double sum = 0.0;
    for (double x : changed) sum += std::exp(x - max);
    std::vector<double> share(kVocab, 0.0);
    constexpr int kGrid = 2000;
    for (int i = 0; i < kGrid; ++i) {
      const SampledToken token = Sample((i + 0.5) / kGrid);
      EXPECT_NEAR(token.sampling_logprob, changed[token.id] - max - std::log(sum), 1e-5);
      EXPECT_EQ(token.logprob, TokenLogprobOf(logits_.data(), kVocab, token.id));
      share[token.id] += 1.0 / kGrid;
    }
    for (TokenId id = 0; id < kVocab; ++id)
      EXPECT_NEAR(share[id], std::exp(changed[id] - max) / sum, 1.5 / kGrid) << id;
  }
  std::vector<double> Changed() const { return {logits_.begin(), logits_.end()}; }

  std::vector<float> logits_ = RandomRow(kVocab, 5, 2.0);
  SamplingParams params_;
  std::vector<TokenId> tokens_ = {3, 3, 8, 20, 20, 20, 61}, forbidden_;
  int64_t prompt_size_ = 3;
  std::vector<uint32_t> allowed_;
};

TEST_F(GuidedSamplerTest, RepetitionPenaltyWeakensWhatPromptAndCompletionHave) {
  params_.repetition_penalty = 1.7;
  std::vector<double> changed = Changed();
  for (TokenId id : {3, 8, 20, 61}) changed[id] *= changed[id] > 0 ? 1 / 1.7 : 1.7;
  ExpectDistribution(changed);
}

TEST_F(GuidedSamplerTest, PresenceAndFrequencyPenaltyCountTheCompletionOnly) {
  params_.presence_penalty = 0.5;
  params_.frequency_penalty = -0.25;
  std::vector<double> changed = Changed();
  changed[20] -= 0.5 - 0.25 * 3;
  changed[61] -= 0.5 - 0.25;
  ExpectDistribution(changed);
}

TEST_F(GuidedSamplerTest, BiasIsAddedToTheLogit) {
  params_.logit_bias = {{7, 3.0f}, {9, -100.0f}};
  std::vector<double> changed = Changed();
  changed[7] += 3.0;
  changed[9] -= 100.0;
  ExpectDistribution(changed);
}

TEST_F(GuidedSamplerTest, NothingButAllowedTokensIsDrawnAndTheyAreRenormalised) {
  Allow({2, 31, 32, 69});
  std::vector<double> changed(kVocab, -1e30);
  for (TokenId id : {2, 31, 32, 69}) changed[id] = logits_[id];
  ExpectDistribution(changed);
}

TEST_F(GuidedSamplerTest, ForbiddenTokensAreTakenFromTheAllowedOnesUnlessNothingIsLeft) {
  Allow({2, 31});
  forbidden_ = {2};
  for (double u : {0.0, 0.5, 0.99}) EXPECT_EQ(Sample(u).id, 31);
  forbidden_ = {2, 31};
  EXPECT_NE(Sample(0.0).id, Sample(0.999).id);
}

TEST_F(GuidedSamplerTest, GreedyTakesTheBestOfWhatTheChangesLeave) {
  params_.temperature = 0.0;
  const auto best =
      static_cast<TokenId>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
  EXPECT_EQ(Sample(0.5).id, best);
  params_.logit_bias = {{best, -100.0f}};
  EXPECT_NE(Sample(0.5).id, best);
}

TEST_F(GuidedSamplerTest, WithNothingChangedItIsThePlainSamplerBitForBit) {
  for (int i = 0; i < 100; ++i) {
    const SampledToken plain = SampleToken(logits_.data(), kVocab, params_, {}, i / 100.0);
    const SampledToken guided = Sample(i / 100.0);
    EXPECT_EQ(guided.id, plain.id);
    EXPECT_EQ(guided.logprob, plain.logprob);
    EXPECT_EQ(guided.sampling_logprob, plain.sampling_logprob);
  }
}

TEST_F(GuidedSamplerTest, TopLogprobsAreTheMostLikelyInOrder) {
  logits_[10] = logits_[40] = 50.0f;  // a tie: the lower id first
  const auto top = TopLogprobs(logits_.data(), kVocab, 6);
  ASSERT_EQ(top.size(), 6u);
  EXPECT_EQ(top[0].id, 10);
  EXPECT_EQ(top[1].id, 40);
  std::vector<float> sorted = logits_;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  for (size_t i = 0; i < top.size(); ++i) {
    EXPECT_EQ(logits_[top[i].id], sorted[i]);
    EXPECT_EQ(top[i].logprob, TokenLogprobOf(logits_.data(), kVocab, top[i].id));
  }
  EXPECT_EQ(TopLogprobs(logits_.data(), kVocab, 128).size(), static_cast<size_t>(kVocab));
}

TEST(SamplingParamsTest, NamesTheFieldThatIsOutOfRange) {
  const std::pair<const char*, void (*)(SamplingParams&)> cases[] = {
      {"repetition_penalty", [](SamplingParams& p) { p.repetition_penalty = 0.0; }},
      {"presence_penalty", [](SamplingParams& p) { p.presence_penalty = 2.5; }},
      {"frequency_penalty", [](SamplingParams& p) { p.frequency_penalty = NAN; }},
      {"logit_bias: must be of ids",
       [](SamplingParams& p) {
         p.logit_bias = {{kVocab, 1.0f}};
       }},
      {"logit_bias: must be in",
       [](SamplingParams& p) {
         p.logit_bias = {{1, 101.0f}};
       }},
      {"allowed_ids", [](SamplingParams& p) { p.allowed_ids = {-1}; }},
      {"num_top_logprobs", [](SamplingParams& p) { p.num_top_logprobs = 129; }}};
  for (const auto& [field, change] : cases) {
    SamplingParams params;
    change(params);
    const absl::Status status = ValidateSamplingParams(params, kVocab);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
}

}  // namespace
}  // namespace rft
