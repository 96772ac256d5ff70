// An engine that says what a script tells it to, from a thread of its own, as late as it is told to.
//
//   FakeEngine engine([](const GenerateRequest& request, int32_t sample) {
//     return FakeAnswer{.text = sample % 2 ? "yes" : "no", .delay_s = 0.001 * sample};
//   });
//
// Thread safety: as InferenceEngine. The script is called in Submit, with the engine's lock held.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "rft/api/inference_engine.h"

namespace rft::testing {

struct FakeAnswer {
  std::string text;  // as bytes, followed by FakeCodec::kEnd if finish_reason is kStop
  double delay_s = 0.0;
  FinishReason finish_reason = FinishReason::kStop;
  std::string error;           // of kError
  float logprob = -1.0f;       // of every token, the prompt's too, under both distributions
  double token_delay_s = 0.0;  // between two tokens
  std::vector<uint8_t> route;  // of every token (packed), where the request wants routes
};

struct FakeWeights : PublishedWeights {
  explicit FakeWeights(int64_t number) : number(number) {}
  int64_t version() const override { return number; }
  int64_t number;
};

class FakeEngine : public InferenceEngine {
 public:
  using Script = std::function<FakeAnswer(const GenerateRequest& request, int32_t sample)>;
  explicit FakeEngine(Script script, int64_t max_context = 4096);
  ~FakeEngine() override { Shutdown(); }

  absl::StatusOr<RequestHandle> Submit(GenerateRequest request,
                                       std::shared_ptr<CompletionSink> sink) override;
  void Cancel(RequestHandle handle) override;
  absl::Status Publish(std::shared_ptr<const PublishedWeights> weights) override;
  void ResetPrefixCache() override { ++num_cache_resets_; }
  int64_t num_cache_resets() const { return num_cache_resets_.load(); }
  EngineStats stats() const override { return {}; }
  int64_t max_context() const override { return max_context_; }
  void Shutdown() override;

  // A cancelled completion is reported this much later, with the tokens told so far.
  void set_cancel_delay_s(double seconds) { cancel_delay_s_ = seconds; }

  std::vector<GenerateRequest> requests() const;  // all that were submitted, in order
  int64_t num_cancelled() const { return num_cancelled_.load(); }
  int64_t num_open() const;
  int64_t max_open() const { return max_open_.load(); }  // most completions open at once so far
  int64_t version() const { return version_.load(); }    // of the latest Publish

 private:
  struct Pending {
    RequestHandle handle = 0;
    int32_t sample = 0;
    Completion completion;
    std::shared_ptr<CompletionSink> sink;
    double token_delay_s = 0.0;
    size_t num_told = 0;  // tokens handed to OnTokens
    bool cancelled = false;
  };
  void Loop();

  const Script script_;
  const int64_t max_context_;
  std::atomic<double> cancel_delay_s_{0.0};
  std::atomic<int64_t> num_cancelled_{0};
  std::atomic<int64_t> max_open_{0};
  std::atomic<int64_t> version_{0};
  std::atomic<int64_t> num_cache_resets_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<double, Pending> pending_;  // by when they are due
  std::vector<GenerateRequest> requests_;
  std::set<RequestHandle> cancelled_;  // also while a token is being told without the lock
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace rft::testing
