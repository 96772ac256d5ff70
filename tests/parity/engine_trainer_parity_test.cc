// One set of tensors, one forward: the log-probability that the sampler recorded for a token is the trainer's, to the bit.
// Requests of all lengths join and leave while others run; chunks, batch sizes and threads differ; prefixes are shared or
// not; and it holds again after every optimizer step.
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>

#include <gtest/gtest.h>

#include "losses/loss.h"
#include "rft/train/trainer.h"
#include "tests/engine/engine_testing.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"

namespace rft {
namespace {

using testing::Family;
using testing::RandomIds;
using testing::RandomInt;

// Runs requests through the engine, `width` at a time: when one is finished, the next joins those that run.
class Relay {
 public:
  Relay(InferenceEngine& engine, const std::vector<GenerateRequest>& requests)
      : engine_(engine), requests_(requests) {
    for (const GenerateRequest& r : requests) completions_.emplace_back(r.num_samples);
    for (const auto& c : completions_) open_ += static_cast<int>(c.size());
  }
  std::vector<std::vector<Completion>> Run(int width) {
    for (int i = 0; i < width; ++i) SubmitNext();
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(done_.wait_for(lock, std::chrono::seconds(60), [&] { return open_ == 0; }));
    return completions_;
  }

 private:
  struct Sink : CompletionSink {
    Sink(Relay& relay, size_t index) : relay(relay), index(index) {}
    void OnFinished(int32_t sample, Completion completion) override {
      relay.Finished(index, sample, std::move(completion));
    }
    Relay& relay;
    const size_t index;
  };
  void SubmitNext() {
    size_t index;
    {
      std::lock_guard lock(mutex_);
      if (next_ == requests_.size()) return;
      index = next_++;
    }
    EXPECT_TRUE(engine_.Submit(requests_[index], std::make_shared<Sink>(*this, index)).ok());
  }
  void Finished(size_t index, int32_t sample, Completion completion) {
    if (sample == 0) SubmitNext();  // from the engine's own thread, in the middle of its work
    std::lock_guard lock(mutex_);
    completions_[index][sample] = std::move(completion);
    if (--open_ == 0) done_.notify_all();
  }

  InferenceEngine& engine_;
  const std::vector<GenerateRequest>& requests_;
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::vector<Completion>> completions_;
  size_t next_ = 0;
  int open_ = 0;
};

class EngineTrainerParityTest
    : public ::testing::TestWithParam<std::tuple<Family, at::ScalarType>> {
 protected:
  std::vector<Datum> Datums(const std::vector<GenerateRequest>& requests,
                            const std::vector<std::vector<Completion>>& completions, bool shared,
                            bool replay = true) {
    std::vector<Datum> datums;
    for (size_t i = 0; i < requests.size(); ++i)
      for (size_t s = 0; s < completions[i].size(); ++s) {
        const Completion& c = completions[i][s];
        Datum d;
        d.ids = requests[i].prompt;
        d.ids.insert(d.ids.end(), c.ids.begin(), c.ids.end());
        d.weights.assign(requests[i].prompt.size(), 0.0f);
        d.weights.resize(d.ids.size(), 1.0f);
        d.advantages.assign(d.ids.size(), s % 2 == 0 ? 1.0f : -0.5f);
        d.prefix_id = shared ? static_cast<int64_t>(i) : -1;
        d.prefix_length = shared ? static_cast<int32_t>(requests[i].prompt.size()) : 0;
        if (replay && !c.routes.empty()) {  // mixtures of experts: with the sampler's own choice
          d.routes.packed = c.prompt_routes;
          d.routes.packed.insert(d.routes.packed.end(), c.routes.begin(), c.routes.end());
          d.routes.known.assign(d.ids.size(), 1);
          d.routes.known[0] = 0;
        }
        datums.push_back(std::move(d));
      }
    return datums;
  }
  // Largest |sampler - trainer| over all tokens; NaN counts as infinite.
  static double LargestDifference(const std::vector<GenerateRequest>& requests,
                                  const std::vector<std::vector<Completion>>& completions,
                                  const ForwardResult& forward) {
    double largest = 0.0;
    size_t datum = 0;
    for (size_t i = 0; i < requests.size(); ++i)
      for (const Completion& c : completions[i]) {
        const std::vector<float>& row = forward.logprobs[datum++];
        for (size_t t = 0; t < c.ids.size(); ++t) {
          const double difference =
              std::abs(static_cast<double>(c.logprobs[t]) - row[requests[i].prompt.size() + t]);
          largest = std::max(largest, std::isnan(difference) ? INFINITY : difference);
        }
      }
    return largest;
  }

  // Two optimizer steps, each sampled by the engine and scored by the trainer; `seed` picks how the work is arranged.
  void SampleAndTrain(int num_requests, uint64_t seed, int sampler_threads, int trainer_threads) {
    std::vector<GenerateRequest> requests = testing::RaggedRequests(num_requests, seed);
    for (GenerateRequest& r : requests) r.routes = RouteCapture::kPromptAndCompletion;
    auto random = [&, n = uint64_t{0}](int64_t low, int64_t high) mutable {
      return RandomInt(low, high, seed, 1000000 + ++n);
    };
    auto trainer = *Trainer::Create(model_, {.token_budget = random(64, 2000)});
    const int64_t max_batch = random(2, 40), pages = random(14, 200);
    auto engine = testing::StartEngine(
        model_, {.max_batch = max_batch, .max_batch_tokens = max_batch + random(0, 60)}, pages);
    for (int step = 0; step < 2; ++step) {
      SetNumThreads(sampler_threads);
      const auto completions = Relay(*engine, requests).Run(static_cast<int>(random(1, 30)));
      SetNumThreads(trainer_threads);
      for (bool shared : {true, false}) {
        const auto forward = trainer->Forward(Datums(requests, completions, shared, shared));
        ASSERT_TRUE(forward.ok()) << forward.status();
        EXPECT_EQ(LargestDifference(requests, completions, *forward), 0.0)
            << "seed " << seed << ", shared " << shared;
      }
      const auto pass = trainer->ForwardBackward(Datums(requests, completions, true),
                                                 FindLoss("grpo").DefaultConfig());
      if (model_->is_int8()) {  // scores and samples, and is not trained
        EXPECT_EQ(pass.status().code(), absl::StatusCode::kFailedPrecondition);
        return;
      }
      ASSERT_TRUE(pass.ok() && pass->finite) << pass.status();
      EXPECT_EQ(pass->metrics.at("ratio_max"), 1.0);
      if (model_->num_sparse_layers() > 0) {
        EXPECT_EQ(pass->metrics.at("routing_changed"), 0.0);
      }
      ASSERT_FALSE(trainer->OptimStep({.learning_rate = 0.01})->skipped);
      ASSERT_TRUE(engine->Publish(*trainer->SaveWeightsForSampler()).ok());
    }
  }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ =
      testing::MakeTinyModel(std::get<0>(GetParam()), std::get<1>(GetParam()));
};

TEST_P(EngineTrainerParityTest, SamplesAndTrainsOnTheSameBitsAfterEveryStep) {
  for (uint64_t seed : {11, 12, 13}) SampleAndTrain(64, seed, 1, 1);
}

TEST_P(EngineTrainerParityTest, SamplesAndTrainsOnTheSameBitsWithDifferentThreads) {
  SampleAndTrain(6, 21, 2, 1);
  SampleAndTrain(6, 22, 1, 2);
}

INSTANTIATE_TEST_SUITE_P(
    Models, EngineTrainerParityTest,
    ::testing::Combine(::testing::Values(Family::kLlama, Family::kQwen3, Family::kQwen3Moe),
                       ::testing::Values(at::kFloat, at::kBFloat16, at::kChar)),
    [](const auto& info) {
      return testing::FamilyName(std::get<0>(info.param)) +
             (std::get<1>(info.param) == at::kFloat      ? "_fp32"
              : std::get<1>(info.param) == at::kBFloat16 ? "_bf16"
                                                         : "_int8");
    });

}  // namespace
}  // namespace rft
