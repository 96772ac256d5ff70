// A grader whose judging happens in worker processes (graders/worker_pool.h), which can hang, crash or print without end
// and are limited, killed and replaced. Python graders (graders/python_grader.cc) are one; anything that speaks the
// messages of graders/worker_messages.h can be another.
//
// The processes start at the first Prepare or Start and end at Shutdown or destruction. Thread-safe.
#pragma once

#include <memory>
#include <mutex>

#include "graders/async_grader.h"
#include "graders/worker_pool.h"

namespace rft {

class ProcessGrader : public AsyncGrader {
 public:
  explicit ProcessGrader(WorkerPoolOptions options) : options_(std::move(options)) {}

  absl::Status Prepare() const override;
  std::vector<ColumnUse> Columns() const override;
  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override;
  void Shutdown() const override;

  WorkerPool::Stats stats() const;

 protected:
  std::shared_ptr<WorkerPool> Pool() const;  // null after Shutdown

 private:
  const WorkerPoolOptions options_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<WorkerPool> pool_;
  mutable bool shut_down_ = false;
};

}  // namespace rft
