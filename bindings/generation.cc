#include "bindings/generation.h"

#include <chrono>
#include <utility>

namespace rft::python {

// One per request. Keeps the Generation alive until the engine lets go of it, also after a caller has given up.
class Generation::Sink : public CompletionSink {
 public:
  Sink(std::shared_ptr<Generation> owner, int32_t prompt)
      : owner_(std::move(owner)), prompt_(prompt) {}

  void OnTokens(int32_t sample, const Completion& so_far, size_t first) override {
    if (!owner_->want_tokens_) return;
    std::lock_guard<std::mutex> lock(owner_->mutex_);
    for (size_t t = first; t < so_far.ids.size(); ++t)
      owner_->tokens_.push_back({prompt_, sample, so_far.ids[t], so_far.logprobs[t]});
    owner_->changed_.notify_one();
  }

  void OnFinished(int32_t sample, Completion completion) override {
    std::lock_guard<std::mutex> lock(owner_->mutex_);
    owner_->results_[static_cast<size_t>(prompt_)][static_cast<size_t>(sample)] =
        std::move(completion);
    if (--owner_->num_unfinished_ == 0) owner_->changed_.notify_one();
  }

 private:
  const std::shared_ptr<Generation> owner_;
  const int32_t prompt_;
};

std::shared_ptr<Generation> Generation::Create(bool want_tokens) {
  return std::shared_ptr<Generation>(new Generation(want_tokens));
}

absl::Status Generation::Submit(InferenceEngine& engine, std::vector<GenerateRequest> requests) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    results_.resize(requests.size());
    for (size_t i = 0; i < requests.size(); ++i)
      results_[i].resize(static_cast<size_t>(requests[i].num_samples));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const int64_t num_samples = requests[i].num_samples;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      num_unfinished_ += num_samples;
    }
    auto handle =
        engine.Submit(std::move(requests[i]),
                      std::make_shared<Sink>(shared_from_this(), static_cast<int32_t>(i)));
    if (!handle.ok()) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        num_unfinished_ -= num_samples;
      }
      Cancel(engine);
      return handle.status();
    }
    handles_.push_back(*handle);
  }
  return absl::OkStatus();
}

bool Generation::Wait(double seconds, std::vector<TokenEvent>* tokens) {
  tokens->clear();
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                    [&] { return num_unfinished_ == 0 || !tokens_.empty(); });
  tokens->swap(tokens_);
  return num_unfinished_ > 0 || !tokens->empty();
}

void Generation::Cancel(InferenceEngine& engine) {
  for (const RequestHandle handle : handles_) engine.Cancel(handle);
}

std::vector<std::vector<Completion>> Generation::TakeResults() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::move(results_);
}

}  // namespace rft::python
