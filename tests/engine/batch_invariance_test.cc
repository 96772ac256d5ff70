// A rollout's tokens depend on its own prompt, key and weights only: same ids, same bits, however the work was arranged.
#include <set>

#include <gtest/gtest.h>

#include "tests/engine/engine_testing.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"

namespace rft {
namespace {

using testing::ExpectSameCompletions;
using testing::Family;
using testing::Generate;
using testing::RaggedRequests;
using testing::StartEngine;

class BatchInvarianceTest : public ::testing::TestWithParam<std::tuple<Family, at::ScalarType>> {
 protected:
  std::vector<std::vector<Completion>> Run(const EngineOptions& options, int64_t pages = 0) {
    auto engine = StartEngine(model_, options, pages);
    auto completions = Generate(*engine, requests_);
    stats_ = engine->stats();
    return completions;
  }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ =
      testing::MakeTinyModel(std::get<0>(GetParam()), std::get<1>(GetParam()));
  std::vector<GenerateRequest> requests_ = RaggedRequests(64, 3);
  EngineStats stats_;
};

TEST_P(BatchInvarianceTest, GivesARequestTheSameTokensAloneAndAmongMany) {
  const auto together = Run({});
  auto engine = StartEngine(model_);
  std::vector<std::vector<Completion>> alone;
  for (const GenerateRequest& request : requests_) alone.push_back(Generate(*engine, {request})[0]);
  ExpectSameCompletions(together, alone);
}

TEST_P(BatchInvarianceTest, DoesNotDependOnChunksOrBatchSize) {
  const auto whole = Run({.max_batch = 64, .max_batch_tokens = 1024});
  ExpectSameCompletions(whole, Run({.max_batch = 5, .max_batch_tokens = 7}));
  ExpectSameCompletions(whole, Run({.max_batch = 1, .max_batch_tokens = 1024}));
}

TEST_P(BatchInvarianceTest, DoesNotDependOnThreads) {
  requests_.resize(6);
  const auto one = Run({});
  SetNumThreads(2);
  ExpectSameCompletions(one, Run({}));
}

TEST_P(BatchInvarianceTest, DoesNotDependOnPreemptions) {
  const auto roomy = Run({});
  EXPECT_EQ(stats_.preemptions, 0);
  const auto tight = Run({}, /*pages=*/12);
  EXPECT_GT(stats_.preemptions, 0);
  ExpectSameCompletions(roomy, tight);
}

TEST_P(BatchInvarianceTest, ReportsTheLogprobsOfAModelThatReadsTheTokensOneByOne) {
  const auto completions = Run({});
  for (size_t i = 0; i < 20; ++i)
    EXPECT_EQ(completions[i][0].logprobs, testing::Replay(*model_, {{1, model_->weights()}},
                                                          requests_[i].prompt, completions[i][0]))
        << i;
}

TEST_P(BatchInvarianceTest, GivesOneGreedyCompletionAThousandTimes) {
  GenerateRequest greedy = testing::MakeRequest(testing::RandomIds(37, 9), 12);
  greedy.sampling.temperature = 0.0;
  greedy.sampling.ignore_eos = true;
  std::set<std::pair<std::vector<TokenId>, std::vector<float>>> unique;
  int made = 0;
  for (uint64_t round = 0; made < 1000; ++round) {
    auto random = [&, n = uint64_t{0}](int64_t low, int64_t high) mutable {
      return testing::RandomInt(low, high, 77 + round, ++n);
    };
    std::vector<GenerateRequest> requests = RaggedRequests(12, round);
    const size_t others = requests.size();
    for (int i = 0; i < 6; ++i) {
      greedy.num_samples = static_cast<int32_t>(random(1, 60));
      requests.insert(requests.begin() + random(0, static_cast<int64_t>(requests.size())), greedy);
    }
    SetNumThreads(round % 4 == 0 ? static_cast<int>(random(1, 2)) : 1);
    const int64_t max_batch = random(1, 64);
    auto engine =
        StartEngine(model_, {.max_batch = max_batch, .max_batch_tokens = random(64, 200)});
    const auto completions = Generate(*engine, requests);
    ASSERT_EQ(completions.size(), others + 6);
    for (size_t i = 0; i < completions.size(); ++i)
      if (requests[i].prompt == greedy.prompt)
        for (const Completion& c : completions[i]) {
          unique.emplace(c.ids, c.logprobs);
          ++made;
        }
  }
  EXPECT_EQ(unique.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Models, BatchInvarianceTest,
                         ::testing::Combine(::testing::Values(Family::kLlama, Family::kQwen3,
                                                              Family::kQwen3Moe),
                                            ::testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                           return testing::FamilyName(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) == at::kFloat ? "_fp32" : "_bf16");
                         });

}  // namespace
}  // namespace rft
