#include "graders/process_grader.h"

#include "absl/strings/str_cat.h"

namespace rft {

std::shared_ptr<WorkerPool> ProcessGrader::Pool() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (pool_ == nullptr && !shut_down_) pool_ = std::make_shared<WorkerPool>(options_);
  return shut_down_ ? nullptr : pool_;
}

absl::Status ProcessGrader::Prepare() const {
  const std::shared_ptr<WorkerPool> pool = Pool();
  if (pool == nullptr) return absl::CancelledError("shut down");
  const absl::Status status = pool->WaitReady();
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(options_.where, ": ", status.message()));
}

std::vector<ColumnUse> ProcessGrader::Columns() const {
  std::vector<ColumnUse> uses;
  if (const std::shared_ptr<WorkerPool> pool = Pool()) {
    for (std::string& column : pool->columns()) uses.push_back({options_.where, std::move(column)});
  }
  return uses;
}

void ProcessGrader::Start(std::shared_ptr<const GradeJob> job,
                          std::function<void(Grade)> done) const {
  if (const std::shared_ptr<WorkerPool> pool = Pool())
    return pool->Submit(std::move(job), std::move(done));
  done(GradeError{"shut down"});
}

void ProcessGrader::Shutdown() const {
  std::shared_ptr<WorkerPool> pool;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_down_ = true;
    pool = pool_;
  }
  if (pool != nullptr) pool->Shutdown();
}

WorkerPool::Stats ProcessGrader::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return pool_ == nullptr ? WorkerPool::Stats{} : pool_->stats();
}

}  // namespace rft
