// Generation in flight, and the way to hold it: what /pause and /resume work on.
//
//   Run(start) ── not paused ─▶ start() now ─▶ Track(job) ... JobDone
//              └─ paused ─▶ held, in order ── Resume ─▶ start()
//
// Thread safety: all methods may be called from any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"

namespace rft::serve {

class GenerationJob;

class PauseGate {
 public:
  explicit PauseGate(size_t max_held) : max_held_(max_held) {}

  // Calls `start` now or at Resume; JobDone must follow once for each start. kResourceExhausted when too many wait already.
  absl::Status Run(std::function<void()> start);
  // So that Pause can cancel it: a job that was being started when Pause came is cancelled now.
  void Track(const std::shared_ptr<GenerationJob>& job);
  // The engine has let go of a job.
  void JobDone();

  // From now on what comes is held. `abort`: what runs is cancelled (and answered with what there is). `idle` is called
  // once when nothing runs any more, perhaps at once.
  void Pause(bool abort, std::function<void()> idle);
  // Cancels what runs now; what comes goes on as before.
  void Abort();
  void Resume();
  // Forgets what is held: its clients are answered with an error.
  void DropHeld();
  bool paused() const;

 private:
  const size_t max_held_;
  mutable std::mutex mutex_;
  bool paused_ = false,
       aborting_ = false;  // aborting_: until Resume, what still runs is to be cancelled
  size_t num_running_ = 0;
  std::vector<std::function<void()>> held_, waiting_for_idle_;
  std::vector<std::weak_ptr<GenerationJob>> jobs_;
};

}  // namespace rft::serve
