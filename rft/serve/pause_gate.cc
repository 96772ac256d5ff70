#include "rft/serve/pause_gate.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/serve/generation_job.h"

namespace rft::serve {

absl::Status PauseGate::Run(std::function<void()> start) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (paused_ && held_.size() >= max_held_)
      return absl::ResourceExhaustedError(absl::StrCat(
          "paused: ", held_.size(), " requests wait for /resume already; try again later"));
    if (paused_) {
      held_.push_back(std::move(start));
      return absl::OkStatus();
    }
    ++num_running_;
  }
  start();
  return absl::OkStatus();
}

void PauseGate::Track(const std::shared_ptr<GenerationJob>& job) {
  bool aborting;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (jobs_.size() >= 2 * num_running_ + 16)
      jobs_.erase(std::remove_if(jobs_.begin(), jobs_.end(),
                                 [](const auto& weak) { return weak.expired(); }),
                  jobs_.end());
    jobs_.push_back(job);
    aborting = aborting_;
  }
  if (aborting) job->Cancel();
}

void PauseGate::JobDone() {
  std::vector<std::function<void()>> idle;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--num_running_ == 0) idle.swap(waiting_for_idle_);
  }
  for (const auto& callback : idle) callback();
}

void PauseGate::Pause(bool abort, std::function<void()> idle) {
  bool is_idle;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    paused_ = true;
    aborting_ = abort;
    is_idle = num_running_ == 0;
    if (!is_idle) waiting_for_idle_.push_back(std::move(idle));
  }
  if (is_idle) return idle();
  if (abort) Abort();
}

void PauseGate::Abort() {
  std::vector<std::weak_ptr<GenerationJob>> jobs;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs = jobs_;
  }
  for (const auto& weak : jobs)
    if (const auto job = weak.lock()) job->Cancel();
}

void PauseGate::Resume() {
  std::vector<std::function<void()>> held;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    paused_ = aborting_ = false;
    held.swap(held_);
    num_running_ += held.size();
  }
  for (const auto& start : held) start();
}

void PauseGate::DropHeld() {
  std::vector<std::function<void()>> dropped;  // freed after the lock is released
  {
    std::lock_guard<std::mutex> lock(mutex_);
    dropped.swap(held_);
  }
}

bool PauseGate::paused() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return paused_;
}

}  // namespace rft::serve
