#include "rft/engine/local_engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

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
using testing::StartEngine;

// Collects what one request is told; calls `on_token` with the number of tokens so far (of all samples).
class RecordingSink : public CompletionSink {
 public:
  explicit RecordingSink(std::function<void(int)> on_token = [](int) {})
      : on_token_(std::move(on_token)) {}
  void OnTokens(int32_t, const Completion&, size_t) override { on_token_(++num_tokens_); }
  void OnFinished(int32_t sample, Completion completion) override {
    std::lock_guard lock(mutex_);
    finished_[sample].push_back(std::move(completion));
    ++num_finished_;
    changed_.notify_all();
  }
  bool WaitFor(int samples) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60),
                             [&] { return num_finished_ >= samples; });
  }
  std::map<int32_t, std::vector<Completion>> finished() {
    std::lock_guard lock(mutex_);
    return finished_;
  }

 private:
  const std::function<void(int)> on_token_;
  int num_tokens_ = 0, num_finished_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int32_t, std::vector<Completion>> finished_;
};

class LocalEngineTest : public ::testing::Test {
 protected:
  // 24 pages hold 384 tokens; the model's context is 256.
  void Start(EngineOptions options = {}, int64_t pages = 24) {
    engine_ = StartEngine(model_, options, pages, std::make_shared<testing::FakeCodec>());
  }
  Completion One(GenerateRequest request) { return Generate(*engine_, {std::move(request)})[0][0]; }
  // Until the engine's own thread has reached the state.
  bool Eventually(const std::function<bool(const EngineStats&)>& reached) {
    for (int i = 0; i < 20000; ++i) {
      if (reached(engine_->stats())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = testing::MakeTinyModel(testing::Family::kLlama, at::kFloat);
  std::unique_ptr<InferenceEngine> engine_;
};

TEST_F(LocalEngineTest, GivesEveryTokenItsLogprobsAndVersion) {
  Start();
  GenerateRequest request = MakeRequest(RandomIds(9, 1), 12);
  request.sampling.ignore_eos = true;
  const Completion c = One(request);
  EXPECT_EQ(c.ids.size(), 12u);
  EXPECT_EQ(c.finish_reason, FinishReason::kLength);
  EXPECT_EQ(c.versions, std::vector<int64_t>(12, 1));
  EXPECT_EQ(c.logprobs, c.sampling_logprobs);  // temperature 1, nothing filtered
}

TEST_F(LocalEngineTest, PrefillsAPromptOnceForAllItsSamples) {
  Start();
  GenerateRequest request = MakeRequest(RandomIds(45, 1), 8);
  request.num_samples = 6;
  const auto completions = Generate(*engine_, {request})[0];
  EXPECT_EQ(engine_->stats().tokens_prefilled, 45);
  int64_t sampled = 0;
  for (const Completion& c : completions) sampled += static_cast<int64_t>(c.ids.size());
  EXPECT_EQ(engine_->stats().tokens_sampled, sampled);
}

TEST_F(LocalEngineTest, SaysWhatEachIterationComputedAndWhereItsTimeWent) {
  Start({.max_batch = 8, .max_batch_tokens = 32});
  GenerateRequest request = MakeRequest(RandomIds(45, 1), 4);
  request.num_samples = 3;
  request.sampling.ignore_eos = true;
  Generate(*engine_, {request});
  ASSERT_TRUE(Eventually([](const EngineStats& s) { return s.iterations >= 5; }));
  std::vector<std::vector<int64_t>> computed;
  for (const IterationCost& c : engine_->RecentIterations()) {
    computed.push_back({c.prefill_tokens, c.decode_tokens, c.decode_keys});
    EXPECT_GT(c.matmul_s, 0.0);
    EXPECT_GE(c.busy_s, c.matmul_s + c.attention_s + c.rowwise_s + c.sampling_s);
  }
  EXPECT_EQ(computed, (std::vector<std::vector<int64_t>>{
                          {32, 0, 0}, {13, 0, 0}, {0, 3, 138}, {0, 3, 141}, {0, 3, 144}}));
}

TEST_F(LocalEngineTest, DrawsSampleIFromTheStreamOfRolloutI) {
  Start();
  GenerateRequest request = MakeRequest(RandomIds(20, 1), 8), third = request;
  request.num_samples = 4;
  third.rng.rollout = 2;
  EXPECT_EQ(Generate(*engine_, {request})[0][2].ids, One(third).ids);
  EXPECT_NE(Generate(*engine_, {request})[0][1].ids, One(third).ids);
}

TEST_F(LocalEngineTest, StopsAtAStopIdAndKeepsIt) {
  Start();
  GenerateRequest request = MakeRequest(RandomIds(9, 1), 20);
  request.sampling.ignore_eos = true;
  const std::vector<TokenId> free = One(request).ids;
  request.sampling.stop_ids = {free[5]};
  const Completion c = One(request);
  const auto first = std::find(free.begin(), free.end(), free[5]) - free.begin();
  EXPECT_EQ(c.ids, std::vector<TokenId>(free.begin(), free.begin() + first + 1));
  EXPECT_EQ(c.finish_reason, FinishReason::kStop);
}

TEST_F(LocalEngineTest, StopsAtTheModelsEndTokenUnlessToldNotTo) {
  // The end token's row of the head becomes so long that it is drawn at once where the hidden state agrees with it.
  const at::Tensor hidden = testing::HiddenStates(*model_, *model_->weights(), RandomIds(9, 1));
  model_->parameters().Find("lm_head.weight")->value[257].copy_(hidden[8].mul(50.0));
  model_->PackNewVersion();
  Start();
  GenerateRequest request = MakeRequest(RandomIds(9, 1), 5);
  EXPECT_EQ(One(request).ids, std::vector<TokenId>{257});
  EXPECT_EQ(One(request).finish_reason, FinishReason::kStop);
  request.sampling.ignore_eos = true;
  EXPECT_EQ(One(request).ids.size(), 5u);
}

TEST_F(LocalEngineTest, DrawsNoStopTokenBeforeMinTokens) {
  Start();
  GenerateRequest request = MakeRequest(RandomIds(9, 1), 20);
  for (TokenId id = 0; id < 200; ++id)
    request.sampling.stop_ids.push_back(id);  // nearly every token stops
  EXPECT_LT(One(request).ids.size(), 7u);
  request.sampling.min_tokens = 7;
  const Completion c = One(request);
  ASSERT_GE(c.ids.size(), 8u);
  for (int i = 0; i < 7; ++i) EXPECT_GE(c.ids[i], 200);
}

TEST_F(LocalEngineTest, StopsAtAStopStringAcrossTokens) {
  Start();
  GenerateRequest request = MakeRequest(RandomIds(9, 1), 20);
  request.sampling.ignore_eos = true;
  const std::vector<TokenId> free = One(request).ids;
  ASSERT_LT(std::max(free[6], free[7]), 256);
  request.sampling.stop_strings = {
      std::string{static_cast<char>(free[6]), static_cast<char>(free[7])}};
  const Completion c = One(request);
  EXPECT_EQ(c.ids, std::vector<TokenId>(free.begin(), free.begin() + 8));
  EXPECT_EQ(c.finish_reason, FinishReason::kStop);
}

TEST_F(LocalEngineTest, RecordsTheVersionOfEveryTokenWhenWeightsArriveInFlight) {
  std::map<int64_t, std::shared_ptr<const ModelWeights>> versions = {{1, model_->weights()}};
  Start();
  for (int64_t v : {2, 3}) {
    model_->parameters().values().mul_(1.05);
    versions[v] = model_->PackNewVersion();
  }
  auto sink = std::make_shared<RecordingSink>(
      [&](int count) {  // runs on the engine's thread: an exact moment
        if (count != 4 && count != 9) return;
        EXPECT_TRUE(engine_->Publish(versions[count == 4 ? 2 : 3]).ok());
      });
  GenerateRequest request = MakeRequest(RandomIds(21, 1), 13);
  request.sampling.ignore_eos = true;
  ASSERT_TRUE(engine_->Submit(request, sink).ok());
  ASSERT_TRUE(sink->WaitFor(1));
  const Completion c = sink->finished()[0][0];
  EXPECT_EQ(c.versions, (std::vector<int64_t>{1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3}));
  EXPECT_EQ(c.logprobs, testing::Replay(*model_, versions, request.prompt, c));
}

TEST_F(LocalEngineTest, RefusesWeightsOfAnotherModel) {
  Start();
  auto other = testing::MakeTinyModel(testing::Family::kLlama, at::kFloat, 2);
  EXPECT_EQ(engine_->Publish(other->weights()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine_->Publish(nullptr).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LocalEngineTest, CancelsAllSamplesAndFreesTheirPages) {
  Start();
  RequestHandle handle = 0;
  std::mutex submitting;  // held until the handle is known
  auto sink = std::make_shared<RecordingSink>([&](int count) {
    if (count != 20) return;
    std::lock_guard lock(submitting);
    engine_->Cancel(handle);
  });
  GenerateRequest request = MakeRequest(RandomIds(20, 1), 200);
  request.num_samples = 4;
  request.sampling.ignore_eos = true;
  {
    std::lock_guard lock(submitting);
    handle = *engine_->Submit(request, sink);
  }
  ASSERT_TRUE(sink->WaitFor(4));
  for (const auto& [sample, completions] : sink->finished()) {
    EXPECT_EQ(completions.size(), 1u);
    EXPECT_EQ(completions[0].finish_reason, FinishReason::kCancelled);
    EXPECT_EQ(completions[0].ids.size(), 5u);
  }
  EXPECT_TRUE(Eventually([](const EngineStats& s) { return s.pages_used == 0 && s.running == 0; }));
  engine_->Cancel(handle);  // finished: ignored
  engine_->Cancel(12345);   // unknown: ignored
  EXPECT_EQ(One(MakeRequest(RandomIds(5, 1), 3)).ids.size(), 3u);
}

TEST_F(LocalEngineTest, KeepsTheFinishedSampleOfAGroupThatIsCancelledAfterIt) {
  Start({.check_invariants = true});
  GenerateRequest request = MakeRequest(RandomIds(20, 1), 200);
  request.num_samples = 4;
  request.sampling.ignore_eos = true;
  const auto whole = Generate(*engine_, {request})[0];
  // A token that one sample draws long before any other does.
  size_t early = 0, at = 0;
  for (size_t s = 0; s < 4 && at == 0; ++s)
    for (size_t t = 5; t < 20 && at == 0; ++t) {
      bool alone = true;
      for (const Completion& c : whole)
        alone = alone && std::find(c.ids.begin(), c.ids.begin() + static_cast<int64_t>(t),
                                   whole[s].ids[t]) == c.ids.begin() + static_cast<int64_t>(t);
      for (size_t o = 0; o < 4; ++o)
        alone = alone && (o == s || whole[o].ids[t] != whole[s].ids[t]);
      if (alone) early = s, at = t;
    }
  ASSERT_GT(at, 0u);
  request.sampling.stop_ids = {whole[early].ids[at]};
  RequestHandle handle = 0;
  std::mutex submitting;  // held until the handle is known
  class CancellingSink : public RecordingSink {
   public:
    explicit CancellingSink(std::function<void()> cancel) : cancel_(std::move(cancel)) {}
    void OnFinished(int32_t sample, Completion completion) override {
      if (completion.finish_reason == FinishReason::kStop) cancel_();
      RecordingSink::OnFinished(sample, std::move(completion));
    }

   private:
    const std::function<void()> cancel_;
  };
  auto sink = std::make_shared<CancellingSink>([&] {
    std::lock_guard lock(submitting);
    engine_->Cancel(handle);
  });
  const int64_t before = engine_->stats().iterations;
  {
    std::lock_guard lock(submitting);
    handle = *engine_->Submit(request, sink);
  }
  ASSERT_TRUE(sink->WaitFor(4));
  for (const auto& [sample, completions] : sink->finished()) {
    ASSERT_EQ(completions.size(), 1u);
    const bool finished = sample == static_cast<int32_t>(early);
    EXPECT_EQ(completions[0].finish_reason,
              finished ? FinishReason::kStop : FinishReason::kCancelled);
    EXPECT_EQ(completions[0].ids.size(), at + 1);  // no step more
    EXPECT_TRUE(std::equal(completions[0].ids.begin(), completions[0].ids.end(),
                           whole[static_cast<size_t>(sample)].ids.begin()));
  }
  EXPECT_TRUE(Eventually(
      [](const EngineStats& s) { return s.pages_used == 0 && s.running == 0 && s.waiting == 0; }));
  EXPECT_LE(engine_->stats().iterations - before, static_cast<int64_t>(at) + 2);
}

TEST_F(LocalEngineTest, DeliversEverythingOnceWhenItShutsDown) {
  Start({.max_batch = 4, .max_batch_tokens = 16});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  const auto slow = [](int) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  for (int i = 0; i < 10; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>(slow));
    GenerateRequest request = MakeRequest(RandomIds(30, i), 200, i);
    request.num_samples = 3;
    request.sampling.ignore_eos = true;
    ASSERT_TRUE(engine_->Submit(request, sinks.back()).ok());
  }
  ASSERT_TRUE(Eventually([](const EngineStats& s) { return s.tokens_sampled > 5; }));
  engine_->Shutdown();
  engine_->Shutdown();
  for (const auto& sink : sinks) {
    ASSERT_EQ(sink->finished().size(), 3u);
    for (const auto& [sample, completions] : sink->finished()) {
      EXPECT_EQ(completions.size(), 1u);
      EXPECT_EQ(completions[0].finish_reason, FinishReason::kCancelled);
    }
  }
  EXPECT_EQ(engine_->Submit(MakeRequest({1}, 1), sinks[0]).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(LocalEngineTest, NamesWhatIsWrongWithARequest) {
  Start();
  const std::pair<const char*, std::function<void(GenerateRequest&)>> cases[] = {
      {"prompt: is empty", [](auto& r) { r.prompt.clear(); }},
      {"prompt: token 258 is outside the vocabulary of 258", [](auto& r) { r.prompt[1] = 258; }},
      {"prompt: token -1 is outside", [](auto& r) { r.prompt[0] = -1; }},
      {"num_samples: must be in 1 .. 4096", [](auto& r) { r.num_samples = 0; }},
      {"num_samples: must be in 1 .. 4096", [](auto& r) { r.num_samples = 5000; }},
      {"exceed the context of 256",
       [](auto& r) { r.prompt.resize(250, 1), r.sampling.max_tokens = 7; }},
      {"sampling.top_p", [](auto& r) { r.sampling.top_p = 2.0; }},
      {"sampling.stop_ids", [](auto& r) { r.sampling.stop_ids = {300}; }}};
  for (const auto& [message, change] : cases) {
    GenerateRequest request = MakeRequest({1, 2, 3}, 4);
    change(request);
    const auto handle = engine_->Submit(request, std::make_shared<RecordingSink>());
    EXPECT_EQ(handle.status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(handle.status().message()), HasSubstr(message));
  }
}

TEST_F(LocalEngineTest, RefusesAPromptThatItsPagesCannotHold) {
  Start({}, /*pages=*/4);
  const auto handle =
      engine_->Submit(MakeRequest(RandomIds(40, 1), 20), std::make_shared<RecordingSink>());
  EXPECT_EQ(handle.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(handle.status().message()), HasSubstr("4 pages of 16"));
  GenerateRequest fits = MakeRequest(RandomIds(40, 1), 8);
  fits.sampling.ignore_eos = true;
  fits.num_samples = 3;
  const auto completions = Generate(*engine_, {fits});
  for (const Completion& c : completions[0]) EXPECT_EQ(c.ids.size(), 8u);
}

TEST_F(LocalEngineTest, NeedsATokenizerForStopStrings) {
  engine_ = StartEngine(model_);
  GenerateRequest request = MakeRequest({1}, 4);
  request.sampling.stop_strings = {"x"};
  EXPECT_THAT(
      std::string(engine_->Submit(request, std::make_shared<RecordingSink>()).status().message()),
      HasSubstr("stop_strings"));
}

TEST_F(LocalEngineTest, RefusesMoreSamplesThanTheQueueHolds) {
  Start({.queue_limit = 5});
  auto sink = std::make_shared<RecordingSink>();
  GenerateRequest request = MakeRequest(RandomIds(4, 1), 200);
  request.num_samples = 4;
  request.sampling.ignore_eos = true;
  ASSERT_TRUE(engine_->Submit(request, sink).ok());
  request.num_samples = 2;
  const auto refused = engine_->Submit(request, sink);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("engine.queue_limit"));
  request.num_samples = 1;
  EXPECT_TRUE(engine_->Submit(request, std::make_shared<RecordingSink>()).ok());
}

TEST_F(LocalEngineTest, RefusesOptionsItCannotRunWith) {
  const std::pair<EngineOptions, const char*> cases[] = {
      {{.max_batch = 0}, "engine.max_batch"},
      {{.max_batch = 8, .max_batch_tokens = 7}, "engine.max_batch_tokens"},
      {{.kv_memory_bytes = 100}, "engine.kv_memory_mb"}};
  for (const auto& [options, field] : cases) {
    const auto engine = CreateLocalEngine(model_, options, nullptr);
    EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(engine.status().message()), HasSubstr(field));
  }
}

}  // namespace
}  // namespace rft
