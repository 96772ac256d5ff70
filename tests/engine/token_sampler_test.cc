// The distribution that is drawn from, against one computed in double: kept ids, their probabilities, and the exact token
// that a uniform number picks.
#include "rft/engine/token_sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::RandomRow;

constexpr double kLast = 1.0 - 0x1.0p-53;  // the largest uniform number

SampledToken Sample(std::vector<float> logits, const SamplingParams& params, double uniform,
                    const std::vector<TokenId>& forbidden = {}) {
  return SampleToken(logits.data(), static_cast<int64_t>(logits.size()), params, forbidden,
                     uniform);
}

// Probabilities at temperature 1 without anything else.
std::vector<double> Softmax(const std::vector<float>& logits, double temperature = 1.0) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  double sum = 0.0;
  for (float x : logits) sum += p.emplace_back(std::exp((x - max) / temperature));
  for (double& x : p) x /= sum;
  return p;
}

// What temperature, top_k, top_p and min_p leave, normalised, by id.
std::map<TokenId, double> Kept(const std::vector<float>& logits, const SamplingParams& s,
                               const std::vector<TokenId>& forbidden = {}) {
  std::vector<float> masked = logits;
  for (TokenId id : forbidden) masked[id] = -INFINITY;
  const std::vector<double> p = Softmax(masked, s.temperature);
  std::vector<TokenId> order(p.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return masked[a] > masked[b]; });
  if (s.top_k > 0) order.resize(std::min<size_t>(order.size(), s.top_k));
  double total = 0.0, mass = 0.0;
  for (TokenId id : order) total += p[id];
  std::map<TokenId, double> kept;
  for (TokenId id : order) {
    if (p[id] == 0.0 || p[id] < s.min_p * p[order[0]]) break;
    kept[id] = p[id];
    if ((mass += p[id]) >= s.top_p * total) break;
  }
  for (auto& [id, q] : kept) q /= mass;
  return kept;
}

// Draws at many uniform numbers: only kept ids, every id with a probability of a few draws, each with its log-probability.
void CheckDistribution(const std::vector<float>& logits, const SamplingParams& s,
                       const std::vector<TokenId>& forbidden = {}) {
  constexpr int kDraws = 2000;
  std::map<TokenId, double> kept = Kept(logits, s, forbidden);
  const std::vector<double> plain = Softmax(logits);
  std::map<TokenId, int> drawn;
  for (int i = 0; i < kDraws; ++i) {
    const SampledToken token = Sample(logits, s, (i + 0.5) / kDraws, forbidden);
    ASSERT_TRUE(kept.count(token.id)) << token.id;
    ASSERT_NEAR(token.sampling_logprob, std::log(kept[token.id]), 2e-5);
    ASSERT_NEAR(token.logprob, std::log(plain[token.id]), 2e-5);
    ++drawn[token.id];
  }
  for (const auto& [id, p] : kept)
    EXPECT_NEAR(drawn[id], p * kDraws, 1.01) << id;  // evenly spaced draws: within one
}

TEST(TokenSamplerTest, DrawsFromTheSoftmaxAtATemperature) {
  for (double temperature : {1.0, 0.5, 2.0}) {
    SamplingParams s;
    s.temperature = temperature;
    CheckDistribution(RandomRow(50, 1, 3.0), s);
    CheckDistribution(RandomRow(3000, 2, 3.0), s);  // several blocks of sums
  }
}

TEST(TokenSamplerTest, KeepsTheMostLikelyTokens) {
  for (int32_t top_k : {1, 2, 7, 50, 1000}) {
    SamplingParams s;
    s.top_k = top_k;
    CheckDistribution(RandomRow(50, 1, 3.0), s);
    EXPECT_EQ(Kept(RandomRow(50, 1, 3.0), s).size(), std::min<size_t>(50, top_k));
  }
}

TEST(TokenSamplerTest, KeepsTheSmallestSetThatReachesTopP) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.25f), std::log(0.15f),
                                     std::log(0.1f)};
  const std::pair<double, size_t> cases[] = {{0.4, 1}, {0.49, 1}, {0.6, 2}, {0.74, 2},
                                             {0.8, 3}, {0.95, 4}, {1.0, 4}};
  for (const auto& [top_p, count] : cases) {
    SamplingParams s;
    s.top_p = top_p;
    EXPECT_EQ(Kept(logits, s).size(), count) << top_p;
    CheckDistribution(logits, s);
  }
}

TEST(TokenSamplerTest, DropsTokensFarBelowTheMostLikely) {
  for (double min_p : {0.01, 0.1, 0.5, 1.0}) {
    SamplingParams s;
    s.min_p = min_p;
    CheckDistribution(RandomRow(50, 1, 3.0), s);
  }
}

TEST(TokenSamplerTest, AppliesTemperatureThenTopKThenTopPThenMinP) {
  SamplingParams s;
  s.temperature = 1.5;
  s.top_k = 20;
  s.top_p = 0.9;
  s.min_p = 0.05;
  CheckDistribution(RandomRow(400, 3, 4.0), s);
  s.top_k = 0;  // more candidates than are sorted at first
  s.min_p = 1e-4;
  s.top_p = 0.999;
  CheckDistribution(RandomRow(1500, 4, 1.0), s);
}

TEST(TokenSamplerTest, NeverDrawsAForbiddenId) {
  const std::vector<float> logits = RandomRow(50, 1, 3.0);
  const auto best =
      static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  SamplingParams plain, filtered, greedy;
  filtered.top_k = 5;
  greedy.temperature = 0.0;
  CheckDistribution(logits, plain, {best, 3});
  CheckDistribution(logits, filtered, {best, 3, 3});
  EXPECT_NE(Sample(logits, greedy, 0.5, {best}).id, best);
}

TEST(TokenSamplerTest, TakesTheMostLikelyTokenWhenGreedy) {
  SamplingParams s;
  s.temperature = 0.0;
  const std::vector<float> logits = {0.0f, 2.0f, 1.0f, 2.0f};
  const SampledToken token = Sample(logits, s, 0.9);
  EXPECT_EQ(token.id, 1);  // a tie: the lower id
  EXPECT_EQ(token.sampling_logprob, 0.0f);
  EXPECT_NEAR(token.logprob, std::log(Softmax(logits)[1]), 1e-6);
}

TEST(TokenSamplerTest, TakesTheLowerIdOfATieFirst) {
  SamplingParams s;
  s.top_k = 2;
  const std::vector<float> tied = {1.0f, 3.0f, 1.0f, 1.0f};
  EXPECT_EQ(Sample(tied, s, 0.0).id, 1);
  EXPECT_EQ(Sample(tied, s, kLast).id, 0);  // not 2 or 3
}

TEST(TokenSamplerTest, StaysInsideAtTheEndsOfTheUniformRange) {
  std::vector<float> logits = RandomRow(2500, 5, 2.0);
  logits.front() = logits.back() = -INFINITY;  // the ends have no probability
  std::fill(logits.begin() + 2000, logits.end(), -INFINITY);
  for (int32_t top_k : {0, 100})
    for (double uniform : {0.0, kLast}) {
      SamplingParams s;
      s.top_k = top_k;
      const SampledToken token = Sample(logits, s, uniform);
      EXPECT_TRUE(token.id > 0 && token.id < 2000) << token.id;
      EXPECT_TRUE(std::isfinite(token.logprob) && std::isfinite(token.sampling_logprob));
    }
  SamplingParams plain;
  EXPECT_EQ(Sample(logits, plain, 0.0).id, 1);
  EXPECT_EQ(Sample(logits, plain, kLast).id, 1999);
}

TEST(TokenSamplerTest, DrawsACertainTokenWithLogprobZero) {
  const std::vector<float> logits = {-INFINITY, 5.0f, -INFINITY};
  for (double uniform : {0.0, 0.5, kLast}) {
    const SampledToken token = Sample(logits, SamplingParams{}, uniform);
    EXPECT_EQ(token.id, 1);
    EXPECT_EQ(token.logprob, 0.0f);
  }
}

TEST(SamplingParamsTest, NamesTheFieldThatIsOutOfRange) {
  const std::pair<const char*, std::function<void(SamplingParams&)>> cases[] = {
      {"temperature", [](auto& s) { s.temperature = -1.0; }},
      {"temperature", [](auto& s) { s.temperature = 1e-4; }},
      {"temperature", [](auto& s) { s.temperature = NAN; }},
      {"top_k", [](auto& s) { s.top_k = -1; }},
      {"top_p", [](auto& s) { s.top_p = 0.0; }},
      {"top_p", [](auto& s) { s.top_p = 1.5; }},
      {"top_p", [](auto& s) { s.top_p = NAN; }},
      {"min_p", [](auto& s) { s.min_p = -0.1; }},
      {"min_p", [](auto& s) { s.min_p = 1.1; }},
      {"max_tokens", [](auto& s) { s.max_tokens = 0; }},
      {"min_tokens", [](auto& s) { s.min_tokens = 65; }},
      {"min_tokens", [](auto& s) { s.min_tokens = -1; }},
      {"stop_ids", [](auto& s) { s.stop_ids = {10}; }},
      {"stop_ids", [](auto& s) { s.stop_ids = {-1}; }},
      {"stop_ids", [](auto& s) { s.stop_ids.assign(1025, 1); }},
      {"stop_strings", [](auto& s) { s.stop_strings = {""}; }},
      {"stop_strings", [](auto& s) { s.stop_strings = {std::string(1025, 'a')}; }},
      {"stop_strings", [](auto& s) { s.stop_strings.assign(65, "a"); }}};
  EXPECT_TRUE(ValidateSamplingParams(SamplingParams{}, 10).ok());
  for (const auto& [field, change] : cases) {
    SamplingParams s;
    change(s);
    const absl::Status status = ValidateSamplingParams(s, 10);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::string("sampling.") + field + ": must be"));
  }
}

}  // namespace
}  // namespace rft
