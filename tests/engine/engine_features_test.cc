// What a request may ask for beside plain sampling, through the engine: prefix cache, log-probabilities of prompts and of
// alternatives, allowed tokens, grammars.
#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/engine_testing.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/fake_codec.h"

namespace rft {
namespace {

using testing::Generate;
using ::testing::HasSubstr;
using testing::MakeRequest;
using testing::RandomIds;
using testing::RandomInt;

class EngineFeaturesTest : public ::testing::Test {
 protected:
  void Start(EngineOptions options = {}, int64_t pages = 0) {
    engine_ = testing::StartEngine(model_, options, pages, std::make_shared<testing::FakeCodec>());
  }
  Completion One(GenerateRequest request) { return Generate(*engine_, {std::move(request)})[0][0]; }
  GenerateRequest Request(int64_t prompt, int32_t max_tokens) const {
    GenerateRequest request = MakeRequest(RandomIds(prompt, 1), max_tokens);
    request.sampling.ignore_eos = true;
    return request;
  }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(testing::Family::kQwen3, at::kBFloat16);
  std::unique_ptr<InferenceEngine> engine_;
};

TEST_F(EngineFeaturesTest, PrefixHitsChangeNoBitWhileOthersRunAndPagesAreShort) {
  std::vector<GenerateRequest> requests;
  const std::vector<TokenId> system = RandomIds(70, 5);
  for (int i = 0; i < 60; ++i) {  // every fourth continues what an earlier one may have said
    GenerateRequest r = MakeRequest(system, static_cast<int32_t>(RandomInt(1, 20, 1, i)), i);
    r.prompt.resize(RandomInt(20, 70, 2, i));
    for (TokenId id : RandomIds(RandomInt(1, 20, 3, i), i / 2)) r.prompt.push_back(id);
    r.num_samples = static_cast<int32_t>(RandomInt(1, 3, 4, i));
    requests.push_back(r);
  }
  Start({.prefix_cache = false});
  const auto expected = Generate(*engine_, requests);
  EXPECT_EQ(engine_->stats().prefix_hit_tokens, 0);
  for (int64_t pages : {0, 14}) {
    Start({.max_batch = 8, .max_batch_tokens = 50}, pages);
    for (int round = 0; round < 2; ++round)
      testing::ExpectSameCompletions(expected, Generate(*engine_, requests));
    EXPECT_GT(engine_->stats().prefix_hit_tokens, 1000);
    EXPECT_EQ(engine_->stats().prefix_evictions > 0, pages == 14);
  }
}

TEST_F(EngineFeaturesTest, TheNextTurnComputesOnlyWhatIsNew) {
  Start();
  GenerateRequest request = Request(40, 30);
  const Completion c = One(request);
  const int64_t before = engine_->stats().tokens_prefilled;
  request.prompt.insert(request.prompt.end(), c.ids.begin(), c.ids.end());
  request.prompt.push_back(7);
  One(request);
  EXPECT_EQ(engine_->stats().tokens_prefilled - before,
            71 - 64);  // 69 were computed, in 4 whole pages
}

TEST_F(EngineFeaturesTest, PromptLogprobsAreThoseOfTheTrainersForward) {
  for (int64_t budget : {64, 1024}) {
    Start({.max_batch = 4, .max_batch_tokens = budget});
    GenerateRequest request = Request(150, 4);
    One(request);  // known now; computed again all the same
    request.want_prompt_logprobs = true;
    request.num_prompt_top_logprobs = 3;
    request.num_samples = 2;
    const auto completions = Generate(*engine_, {request})[0];
    Completion as_completion;  // the prompt, as if it had been sampled after its first token
    as_completion.ids.assign(request.prompt.begin() + 1, request.prompt.end());
    as_completion.versions.assign(149, 1);
    const std::vector<float> expected =
        testing::Replay(*model_, {{1, model_->weights()}}, {request.prompt[0]}, as_completion);
    for (const Completion& c : completions) {
      ASSERT_EQ(c.prompt_logprobs.size(), 150u);
      EXPECT_TRUE(std::isnan(c.prompt_logprobs[0]));
      EXPECT_EQ(std::vector<float>(c.prompt_logprobs.begin() + 1, c.prompt_logprobs.end()),
                expected);
      ASSERT_EQ(c.prompt_top_logprobs.size(), 150u);
      EXPECT_TRUE(c.prompt_top_logprobs[0].empty());
      for (size_t t = 1; t < 150; ++t) {
        ASSERT_EQ(c.prompt_top_logprobs[t].size(), 3u);
        EXPECT_GE(c.prompt_top_logprobs[t][0].logprob, expected[t - 1]);
      }
    }
  }
}

TEST_F(EngineFeaturesTest, AlternativesComeWithTheTokenTheyArePartOf) {
  Start();
  GenerateRequest request = Request(9, 12);
  request.sampling.temperature = 0.0;
  request.sampling.num_top_logprobs = 4;
  const Completion c = One(request);
  ASSERT_EQ(c.top_logprobs.size(), 12u);
  for (size_t i = 0; i < 12; ++i) {
    ASSERT_EQ(c.top_logprobs[i].size(), 4u);
    EXPECT_EQ(c.top_logprobs[i][0].id, c.ids[i]);
    EXPECT_EQ(c.top_logprobs[i][0].logprob, c.logprobs[i]);
    EXPECT_GT(c.top_logprobs[i][0].logprob, c.top_logprobs[i][3].logprob);
  }
}

TEST_F(EngineFeaturesTest, DrawsNothingButAllowedTokens) {
  Start();
  GenerateRequest request = Request(9, 40);
  request.sampling.allowed_ids = {3, 77, 200};
  const Completion c = One(request);
  EXPECT_THAT(c.ids, ::testing::Each(::testing::AnyOf(3, 77, 200)));
  for (size_t i = 0; i < c.ids.size(); ++i) EXPECT_GT(c.sampling_logprobs[i], c.logprobs[i]);
  EXPECT_EQ(c.logprobs, testing::Replay(*model_, {{1, model_->weights()}}, request.prompt, c));
}

TEST_F(EngineFeaturesTest, NamesTheStopStringThatEndedACompletion) {
  Start();
  GenerateRequest request = Request(9, 40);
  request.sampling.allowed_ids = {0xC3, 0xA9, 'x'};  // the two halves of an e with an accent
  request.sampling.stop_strings = {"never", "\xC3\xA9"};
  const Completion c = One(request);
  EXPECT_EQ(c.stop_string, "\xC3\xA9");
  EXPECT_EQ(c.finish_reason, FinishReason::kStop);
  ASSERT_GE(c.ids.size(), 2u);
  EXPECT_EQ(c.ids[c.ids.size() - 2], 0xC3);
  EXPECT_EQ(c.ids.back(), 0xA9);
}

// Digits in rising order, then nothing: five at most.
class Rising : public TokenGrammar {
 public:
  explicit Rising(bool fails = false) : fails_(fails) {}
  absl::StatusOr<std::unique_ptr<TokenMask>> Start() const override {
    return std::make_unique<Mask>(fails_);
  }

 private:
  struct Mask : TokenMask {
    explicit Mask(bool fails) : fails(fails) {}
    absl::Status Next(TokenBits bits) override {
      if (fails && count == 2) return absl::InternalError("the grammar broke");
      std::fill(bits.begin(), bits.end(), 0u);
      if (count < 5)
        for (TokenId id = last + 1; id <= '9' - 4 + count; ++id) bits[id / 32] |= 1u << (id % 32);
      return absl::OkStatus();
    }
    absl::Status Accept(TokenId id) override {
      last = id;
      ++count;
      return absl::OkStatus();
    }
    const bool fails;
    int count = 0;
    TokenId last = '0' - 1;
  };
  const bool fails_;
};

TEST_F(EngineFeaturesTest, AGrammarHoldsForEverySampleThroughPreemptions) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(Request(RandomInt(14, 30, 1, i), 20));
    requests.back().rng.row = i;
    requests.back().num_samples = 4;
    requests.back().grammar = std::make_shared<Rising>();
  }
  Start();
  const auto expected = Generate(*engine_, requests);
  std::set<std::vector<TokenId>> different;
  for (const auto& group : expected)
    for (const Completion& c : group) {
      ASSERT_EQ(c.ids.size(), 5u);
      EXPECT_TRUE(std::is_sorted(c.ids.begin(), c.ids.end()));
      EXPECT_GE(c.ids.front(), '0');
      EXPECT_LE(c.ids.back(), '9');
      EXPECT_EQ(c.finish_reason, FinishReason::kStop);
      EXPECT_GT(c.sampling_logprobs[0], c.logprobs[0]);
      different.insert(c.ids);
    }
  EXPECT_GT(different.size(), 8u);
  Start({.max_batch = 6}, /*pages=*/6);
  testing::ExpectSameCompletions(expected, Generate(*engine_, requests));
  EXPECT_GT(engine_->stats().preemptions, 0);
}

TEST_F(EngineFeaturesTest, AGrammarThatFailsEndsItsCompletionOnly) {
  Start();
  GenerateRequest broken = Request(9, 20), fine = Request(9, 20);
  broken.grammar = std::make_shared<Rising>(/*fails=*/true);
  const auto completions = Generate(*engine_, {broken, fine});
  EXPECT_EQ(completions[0][0].finish_reason, FinishReason::kError);
  EXPECT_THAT(completions[0][0].error, HasSubstr("the grammar broke"));
  EXPECT_EQ(completions[0][0].ids.size(), 2u);
  EXPECT_EQ(completions[1][0].ids.size(), 20u);
}

}  // namespace
}  // namespace rft
