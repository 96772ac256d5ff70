// What every engine must do, whatever is behind it: one suite, instantiated per engine (tests/remote, tests/engine).
//
//   INSTANTIATE_TEST_SUITE_P(Http, EngineContractTest, ::testing::Values(EngineCase{"http", MakeHttpOverFake}), EngineName);
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/api/inference_engine.h"

namespace rft::testing {

// An engine and what it needs, kept alive together. Context: at least 200 tokens; at most 64 samples in flight.
class EngineUnderTest {
 public:
  virtual ~EngineUnderTest() = default;
  virtual InferenceEngine& engine() = 0;
  virtual std::vector<TokenId> prompt() = 0;
  // Publishes new weights; returns their version.
  virtual int64_t Publish() = 0;
};

struct EngineCase {
  std::string name;
  std::function<std::unique_ptr<EngineUnderTest>()> make;
};

inline std::string EngineName(const ::testing::TestParamInfo<EngineCase>& info) {
  return info.param.name;
}

// Collects what a request's samples are told.
class Recorder : public CompletionSink {
 public:
  explicit Recorder(int32_t samples)
      : told_(static_cast<size_t>(samples)), finished_(static_cast<size_t>(samples)) {}
  void OnTokens(int32_t sample, const Completion& so_far, size_t first) override {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<TokenId>& told = told_[static_cast<size_t>(sample)];
    told.insert(told.end(), so_far.ids.begin() + static_cast<int64_t>(first), so_far.ids.end());
  }
  void OnFinished(int32_t sample, Completion completion) override {
    std::lock_guard<std::mutex> lock(mutex_);
    finished_[static_cast<size_t>(sample)].push_back(std::move(completion));
    changed_.notify_all();
  }
  // Until every sample has finished at least once; false after a minute.
  bool Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [this] {
      for (const auto& list : finished_)
        if (list.empty()) return false;
      return true;
    });
  }
  std::vector<std::vector<TokenId>> told() {
    std::lock_guard<std::mutex> lock(mutex_);
    return told_;
  }
  std::vector<std::vector<Completion>> finished() {
    std::lock_guard<std::mutex> lock(mutex_);
    return finished_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<TokenId>> told_;
  std::vector<std::vector<Completion>> finished_;
};

class EngineContractTest : public ::testing::TestWithParam<EngineCase> {
 protected:
  void SetUp() override { under_test_ = GetParam().make(); }
  InferenceEngine& engine() { return under_test_->engine(); }
  GenerateRequest Request(int32_t n, int32_t max_tokens) {
    GenerateRequest request;
    request.prompt = under_test_->prompt();
    request.num_samples = n;
    request.sampling.max_tokens = max_tokens;
    request.sampling.ignore_eos = true;
    request.rng.run_seed = 1;
    return request;
  }
  absl::StatusCode CodeOf(GenerateRequest request) {
    return engine().Submit(std::move(request), std::make_shared<Recorder>(1)).status().code();
  }
  std::unique_ptr<EngineUnderTest> under_test_;
};

TEST_P(EngineContractTest, FinishesEverySampleOnceWithVectorsOfOneLength) {
  auto sink = std::make_shared<Recorder>(3);
  ASSERT_TRUE(engine().Submit(Request(3, 8), sink).ok());
  ASSERT_TRUE(sink->Wait());
  for (const auto& list : sink->finished()) {
    ASSERT_EQ(list.size(), 1u);
    const Completion& c = list[0];
    EXPECT_EQ(c.finish_reason, FinishReason::kLength) << c.error;
    EXPECT_EQ(c.ids.size(), 8u);
    EXPECT_EQ(c.logprobs.size(), 8u);
    EXPECT_EQ(c.sampling_logprobs.size(), 8u);
    EXPECT_EQ(c.versions.size(), 8u);
    EXPECT_THAT(c.logprobs, ::testing::Each(::testing::Le(0.0f)));
  }
}

TEST_P(EngineContractTest, TellsTheTokensThatItThenDelivers) {
  auto sink = std::make_shared<Recorder>(2);
  ASSERT_TRUE(engine().Submit(Request(2, 8), sink).ok());
  ASSERT_TRUE(sink->Wait());
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(sink->told()[i], sink->finished()[i][0].ids);
}

TEST_P(EngineContractTest, RecordsTheVersionOfEachToken) {
  const int64_t version = under_test_->Publish();
  auto sink = std::make_shared<Recorder>(1);
  ASSERT_TRUE(engine().Submit(Request(1, 8), sink).ok());
  ASSERT_TRUE(sink->Wait());
  EXPECT_THAT(sink->finished()[0][0].versions, ::testing::Each(version));
}

TEST_P(EngineContractTest, DrawsTheSameForTheSameKey) {
  std::vector<std::vector<TokenId>> drawn;
  for (int i = 0; i < 2; ++i) {
    auto sink = std::make_shared<Recorder>(1);
    ASSERT_TRUE(engine().Submit(Request(1, 8), sink).ok());
    ASSERT_TRUE(sink->Wait());
    drawn.push_back(sink->finished()[0][0].ids);
  }
  EXPECT_EQ(drawn[0], drawn[1]);
}

TEST_P(EngineContractTest, EndsWhatIsCancelled) {
  auto sink = std::make_shared<Recorder>(4);
  const auto handle = engine().Submit(Request(4, 180), sink);
  ASSERT_TRUE(handle.ok());
  engine().Cancel(*handle);
  engine().Cancel(*handle);
  engine().Cancel(123456789);
  ASSERT_TRUE(sink->Wait());
  for (const auto& list : sink->finished()) {
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].finish_reason, FinishReason::kCancelled) << list[0].error;
  }
}

TEST_P(EngineContractTest, RefusesBadRequestsAndGoesOn) {
  GenerateRequest empty = Request(1, 8), negative = Request(1, 8), hot = Request(1, 8);
  empty.prompt.clear();
  negative.prompt[0] = -1;
  hot.sampling.temperature = -1;
  for (const GenerateRequest& bad : {empty, negative, hot, Request(0, 8), Request(1000000000, 8),
                                     Request(1, 0), Request(1, 1 << 30)})
    EXPECT_EQ(CodeOf(bad), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Request(1, 2)), absl::StatusCode::kOk);
}

TEST_P(EngineContractTest, RefusesMoreThanItsQueueHolds) {
  EXPECT_EQ(CodeOf(Request(65, 8)), absl::StatusCode::kResourceExhausted);
}

TEST_P(EngineContractTest, EndsEverythingAtShutdown) {
  auto sink = std::make_shared<Recorder>(2);
  ASSERT_TRUE(engine().Submit(Request(2, 180), sink).ok());
  engine().Shutdown();
  engine().Shutdown();
  for (const auto& list : sink->finished()) ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(CodeOf(Request(1, 2)), absl::StatusCode::kFailedPrecondition);
}

}  // namespace rft::testing
