#include "rft/api/inference_engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

// How long GenerateAll waits for sinks to be called after it has cancelled their requests.
constexpr double kCancelDeadlineS = 10.0;

// Shared by the sinks and the waiting thread, so that a sink called after the wait is over is harmless.
struct Pending {
  std::mutex mutex;
  std::condition_variable all_done;
  std::vector<std::vector<Completion>> completions;
  int64_t num_open = 0;

  // False if samples are still open when `deadline_s` has passed.
  bool WaitFor(double deadline_s) {
    std::unique_lock<std::mutex> lock(mutex);
    return all_done.wait_for(lock, std::chrono::duration<double>(std::clamp(deadline_s, 0.0, 1e8)),
                             [this] { return num_open == 0; });
  }
};

class CollectingSink : public CompletionSink {
 public:
  CollectingSink(std::shared_ptr<Pending> pending, size_t request)
      : pending_(std::move(pending)), request_(request) {}

  void OnFinished(int32_t sample, Completion completion) override {
    std::lock_guard<std::mutex> lock(pending_->mutex);
    pending_->completions[request_][static_cast<size_t>(sample)] = std::move(completion);
    if (--pending_->num_open == 0) pending_->all_done.notify_all();
  }

 private:
  const std::shared_ptr<Pending> pending_;
  const size_t request_;
};

void CancelAll(InferenceEngine& engine, const std::vector<RequestHandle>& handles,
               Pending& pending) {
  for (RequestHandle handle : handles) engine.Cancel(handle);
  pending.WaitFor(kCancelDeadlineS);
}

}  // namespace

std::optional<WeightPolicy> ParseWeightPolicy(std::string_view name) {
  for (const auto& [known, policy] : kWeightPolicies)
    if (known == name) return policy;
  return std::nullopt;
}

std::string_view WeightPolicyName(WeightPolicy policy) {
  for (const auto& [name, known] : kWeightPolicies)
    if (known == policy) return name;
  return "";
}

absl::StatusOr<std::vector<std::vector<Completion>>> GenerateAll(
    InferenceEngine& engine, std::vector<GenerateRequest> requests, double deadline_s) {
  auto pending = std::make_shared<Pending>();
  for (const GenerateRequest& request : requests) {
    if (request.num_samples < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("num_samples: expected at least 1, got ", request.num_samples));
    }
    pending->completions.emplace_back(static_cast<size_t>(request.num_samples));
  }
  std::vector<RequestHandle> handles;
  for (size_t i = 0; i < requests.size(); ++i) {
    const int32_t num_samples = requests[i].num_samples;
    {
      std::lock_guard<std::mutex> lock(pending->mutex);
      pending->num_open += num_samples;
    }
    absl::StatusOr<RequestHandle> handle =
        engine.Submit(std::move(requests[i]), std::make_shared<CollectingSink>(pending, i));
    if (!handle.ok()) {
      {
        std::lock_guard<std::mutex> lock(pending->mutex);
        pending->num_open -= num_samples;
      }
      CancelAll(engine, handles, *pending);
      return absl::Status(handle.status().code(),
                          absl::StrCat("request ", i, ": ", handle.status().message()));
    }
    handles.push_back(*handle);
  }
  if (!pending->WaitFor(deadline_s)) {
    int64_t num_open;
    {
      std::lock_guard<std::mutex> lock(pending->mutex);
      num_open = pending->num_open;
    }
    CancelAll(engine, handles, *pending);
    return absl::DeadlineExceededError(
        absl::StrCat("engine: ", num_open, " completions of ", requests.size(),
                     " requests were not finished after ", deadline_s, " s; they were cancelled"));
  }
  std::lock_guard<std::mutex> lock(pending->mutex);
  return std::move(pending->completions);
}

}  // namespace rft
