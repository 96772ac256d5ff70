// New weights while requests run: 1,000 swaps under load, and every token's log-probability is that of the version it names.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"
#include "tests/engine/engine_testing.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"

namespace rft {
namespace {

using testing::RandomIds;
using testing::RandomInt;

constexpr int kVersions = 12, kWidth = 5;

class WeightPolicyTest : public ::testing::TestWithParam<WeightPolicy> {
 protected:
  WeightPolicyTest() {
    versions_[1] = model_->weights();
    for (int64_t v = 2; v <= kVersions; ++v) {
      model_->parameters().values().mul_(v % 2 ? 1.02 : 0.985);
      versions_[v] = model_->PackNewVersion();
    }
    for (int i = 0; i < 200; ++i) {
      GenerateRequest r = testing::MakeRequest(RandomIds(RandomInt(1, 20, 3, i), i),
                                               static_cast<int32_t>(RandomInt(20, 60, 4, i)), i);
      r.num_samples = static_cast<int32_t>(RandomInt(1, 2, 5, i));
      r.sampling.ignore_eos = true;
      r.weight_policy = GetParam();
      requests_.push_back(r);
      completions_.emplace_back(r.num_samples);
    }
  }

  // kWidth requests at a time; after every token of the first sample of each, another version.
  struct Sink : CompletionSink {
    Sink(WeightPolicyTest& test, size_t index) : test(test), index(index) {}
    void OnTokens(int32_t sample, const Completion&, size_t) override {
      if (sample == 0) test.PublishAny();
    }
    void OnFinished(int32_t sample, Completion completion) override {
      if (sample == 0) test.SubmitNext();
      std::lock_guard lock(test.mutex_);
      test.completions_[index][sample] = std::move(completion);
      ++test.num_finished_;
      test.done_.notify_all();
    }
    WeightPolicyTest& test;
    const size_t index;
  };
  void PublishAny() {
    EXPECT_TRUE(engine_->Publish(versions_.at(RandomInt(1, kVersions, 6, num_published_++))).ok());
  }
  void SubmitNext() {
    size_t index;
    {
      std::lock_guard lock(mutex_);
      if (next_ == requests_.size()) return;
      index = next_++;
    }
    EXPECT_TRUE(engine_->Submit(requests_[index], std::make_shared<Sink>(*this, index)).ok());
  }
  void Run(int64_t pages) {
    engine_ = testing::StartEngine(model_, {.max_batch = 16, .max_batch_tokens = 4096}, pages);
    size_t expected = 0;
    for (const auto& c : completions_) expected += c.size();
    for (int i = 0; i < kWidth; ++i) SubmitNext();
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(
        done_.wait_for(lock, std::chrono::seconds(60), [&] { return num_finished_ == expected; }));
    EXPECT_GE(engine_->stats().weight_swaps, 1000);
  }

  // Each token's log-probability when everything before it was computed with the version that it names.
  std::vector<float> Fresh(const std::vector<TokenId>& prompt, const Completion& c) const {
    at::NoGradGuard no_grad;
    std::vector<TokenId> ids = prompt;
    ids.insert(ids.end(), c.ids.begin(), c.ids.end());
    std::vector<float> logprobs(c.ids.size());
    for (int64_t version : std::set<int64_t>(c.versions.begin(), c.versions.end())) {
      const ModelWeights& weights = *versions_.at(version);
      const at::Tensor hidden = testing::HiddenStates(*model_, weights, ids);
      const std::vector<int64_t> targets(c.ids.begin(), c.ids.end());
      const at::Tensor scored = ops::TokenLogprobs(
          hidden.narrow(0, static_cast<int64_t>(prompt.size()) - 1, targets.size()).contiguous(),
          weights.head, at::tensor(targets, at::kLong), 1.0);
      for (size_t i = 0; i < c.ids.size(); ++i)
        if (c.versions[i] == version) logprobs[i] = Data<float>(scored)[i];
    }
    return logprobs;
  }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(testing::Family::kQwen3, at::kBFloat16);
  std::map<int64_t, std::shared_ptr<const ModelWeights>> versions_;
  std::vector<GenerateRequest> requests_;
  std::unique_ptr<InferenceEngine> engine_;
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::vector<Completion>> completions_;
  size_t next_ = 0, num_finished_ = 0;
  uint64_t num_published_ = 0;  // engine's thread only
};

TEST_P(WeightPolicyTest, EveryTokenReproducesUnderItsVersionAfterAThousandSwaps) {
  Run(/*pages=*/0);
  std::set<int64_t> seen;
  for (size_t i = 0; i < requests_.size(); ++i)
    for (const Completion& c : completions_[i]) {
      const std::set<int64_t> versions(c.versions.begin(), c.versions.end());
      seen.insert(versions.begin(), versions.end());
      if (GetParam() == WeightPolicy::kFinish) {
        EXPECT_EQ(versions.size(), 1u);
        EXPECT_EQ(versions, std::set<int64_t>{completions_[i][0].versions[0]});
      } else {
        EXPECT_GT(versions.size(), 1u);
      }
      EXPECT_EQ(c.logprobs, GetParam() == WeightPolicy::kContinue
                                ? testing::Replay(*model_, versions_, requests_[i].prompt, c)
                                : Fresh(requests_[i].prompt, c))
          << "request " << i;
    }
  EXPECT_GT(seen.size(), 5u);
}

// Preemption computes keys and values anew, with the newest version where the request goes on with it: only the two policies
// that never mix versions promise the same numbers then.
class UnmixedPolicyTest : public WeightPolicyTest {};

TEST_P(UnmixedPolicyTest, PreemptionChangesNothing) {
  Run(/*pages=*/16);
  EXPECT_GT(engine_->stats().preemptions, 0);
  for (size_t i = 0; i < requests_.size(); ++i)
    for (const Completion& c : completions_[i])
      EXPECT_EQ(c.logprobs, Fresh(requests_[i].prompt, c)) << "request " << i;
}

std::string PolicyName(const ::testing::TestParamInfo<WeightPolicy>& info) {
  return std::vector<std::string>{"Continue", "Finish", "Recompute"}[static_cast<int>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Policies, WeightPolicyTest,
                         ::testing::Values(WeightPolicy::kContinue, WeightPolicy::kFinish,
                                           WeightPolicy::kRecompute),
                         PolicyName);
INSTANTIATE_TEST_SUITE_P(Policies, UnmixedPolicyTest,
                         ::testing::Values(WeightPolicy::kFinish, WeightPolicy::kRecompute),
                         PolicyName);

}  // namespace
}  // namespace rft
