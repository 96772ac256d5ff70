// Threads that execute code, each with sandboxes that were started ahead of time: a job waits for neither bubblewrap nor
// the interpreter. A sandbox serves one job and is thrown away.
//
//   Submit --> queue --> thread 0: [warm Python, warm Python] --job--> throw away, start the next ones
//                        thread 1: ...
//
// Thread safety: Submit and Shutdown from any thread, Shutdown not from a job.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "graders/sandbox/sandbox.h"
#include "graders/sandbox/sandbox_process.h"

namespace rft {

class SandboxPool {
 public:
  // What a job is given, on its thread.
  class Bench {
   public:
    // A Python sandbox that is ready for its one job.
    absl::StatusOr<std::unique_ptr<SandboxProcess>> TakePython();
    // Starts as many as are kept, without waiting for them.
    void WarmUp();
    const Sandbox& sandbox() const { return *sandbox_; }

   private:
    friend class SandboxPool;
    std::shared_ptr<const Sandbox> sandbox_;
    size_t num_warm_ = 0;
    std::deque<std::unique_ptr<SandboxProcess>> warm_;  // started, perhaps not ready yet
  };
  using Job = std::function<void(Bench&)>;

  // `num_warm` sandboxes are kept by each of `num_threads` threads; a job may take more, and waits for those.
  SandboxPool(std::shared_ptr<const Sandbox> sandbox, int num_threads, int num_warm);
  ~SandboxPool();  // Shutdown

  // False: shut down; the job will not run.
  bool Submit(Job job);
  // Jobs that have not begun are dropped (whoever submitted them answers for them); waits for those that have.
  void Shutdown();

 private:
  void RunThread(Bench& bench);

  std::vector<std::unique_ptr<Bench>> benches_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace rft
