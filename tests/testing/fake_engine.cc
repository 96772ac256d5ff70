#include "tests/testing/fake_engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "rft/core/clock.h"
#include "tests/testing/fake_codec.h"

namespace rft::testing {
namespace {

Completion MakeCompletion(const GenerateRequest& request, const FakeAnswer& answer,
                          int64_t version) {
  Completion completion;
  completion.ids = ByteIds(answer.text);
  if (answer.finish_reason == FinishReason::kStop) completion.ids.push_back(FakeCodec::kEnd);
  completion.logprobs.assign(completion.ids.size(), answer.logprob);
  completion.sampling_logprobs = completion.logprobs;
  completion.versions.assign(completion.ids.size(), version);
  completion.finish_reason = answer.finish_reason;
  completion.error = answer.error;
  if (request.routes != RouteCapture::kNone)
    for (size_t t = 0; t < completion.ids.size(); ++t)
      completion.routes.insert(completion.routes.end(), answer.route.begin(), answer.route.end());
  if (request.want_prompt_logprobs) {
    completion.prompt_logprobs.assign(request.prompt.size(), answer.logprob);
    completion.prompt_logprobs[0] = std::numeric_limits<float>::quiet_NaN();
  }
  return completion;
}

// Keeps the first `count` tokens: what a cancelled completion has.
void CutTo(size_t count, Completion& completion) {
  if (!completion.ids.empty())
    completion.routes.resize(completion.routes.size() / completion.ids.size() * count);
  completion.ids.resize(count);
  completion.logprobs.resize(count);
  completion.sampling_logprobs.resize(count);
  completion.versions.resize(count);
  completion.finish_reason = FinishReason::kCancelled;
  completion.error.clear();
}

}  // namespace

FakeEngine::FakeEngine(Script script, int64_t max_context)
    : script_(std::move(script)), max_context_(max_context), thread_([this] { Loop(); }) {}

absl::StatusOr<RequestHandle> FakeEngine::Submit(GenerateRequest request,
                                                 std::shared_ptr<CompletionSink> sink) {
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt: empty");
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return absl::FailedPreconditionError("the engine is shut down");
  const double now = Clock::Default().NowSeconds();
  const auto handle = static_cast<RequestHandle>(requests_.size());
  for (int32_t sample = 0; sample < request.num_samples; ++sample) {
    const FakeAnswer answer = script_(request, sample);
    pending_.emplace(now + answer.delay_s,
                     Pending{handle, sample, MakeCompletion(request, answer, version_), sink,
                             answer.token_delay_s});
  }
  max_open_ = std::max(max_open_.load(), static_cast<int64_t>(pending_.size()));
  requests_.push_back(std::move(request));
  changed_.notify_all();
  return handle;
}

void FakeEngine::Cancel(RequestHandle handle) {
  std::lock_guard<std::mutex> lock(mutex_);
  cancelled_.insert(handle);
  const double due = Clock::Default().NowSeconds() + cancel_delay_s_;
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto next = std::next(it);
    if (it->second.handle == handle && !it->second.cancelled) {
      Pending cancelled = std::move(it->second);
      pending_.erase(it);
      cancelled.cancelled = true;
      CutTo(cancelled.num_told, cancelled.completion);
      pending_.emplace(due, std::move(cancelled));
      num_cancelled_.fetch_add(1);
    }
    it = next;
  }
  changed_.notify_all();
}

absl::Status FakeEngine::Publish(std::shared_ptr<const PublishedWeights> weights) {
  version_ = weights->version();
  return absl::OkStatus();
}

void FakeEngine::Shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::vector<GenerateRequest> FakeEngine::requests() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return requests_;
}

int64_t FakeEngine::num_open() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(pending_.size());
}

void FakeEngine::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (stopping_) {
      for (auto& [due, pending] : pending_) CutTo(pending.num_told, pending.completion);
    }
    if (pending_.empty()) {
      if (stopping_) return;
      changed_.wait(lock);
      continue;
    }
    const double left = pending_.begin()->first - Clock::Default().NowSeconds();
    if (left > 0 && !stopping_) {
      changed_.wait_for(lock, std::chrono::duration<double>(left));
      continue;
    }
    Pending due = std::move(pending_.extract(pending_.begin()).mapped());
    Completion& completion = due.completion;
    lock.unlock();
    while (due.num_told < completion.ids.size()) {
      Completion so_far = completion;
      CutTo(++due.num_told, so_far);
      due.sink->OnTokens(due.sample, so_far, due.num_told - 1);
      if (due.token_delay_s > 0) break;
    }
    const bool finished = due.num_told == completion.ids.size();
    if (finished) due.sink->OnFinished(due.sample, std::move(completion));
    lock.lock();
    if (finished) continue;
    if (cancelled_.contains(due.handle)) {
      due.cancelled = true;
      CutTo(due.num_told, due.completion);
      num_cancelled_.fetch_add(1);
    }
    pending_.emplace(Clock::Default().NowSeconds() + due.token_delay_s, std::move(due));
  }
}

}  // namespace rft::testing
