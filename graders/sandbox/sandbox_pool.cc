#include "graders/sandbox/sandbox_pool.h"

#include <utility>

#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr double kReadyDeadlineS = 30.0;  // a machine may be very busy

}  // namespace

void SandboxPool::Bench::WarmUp() {
  while (warm_.size() < num_warm_) {
    absl::StatusOr<SandboxCommand> command = sandbox_->Python();
    if (!command.ok()) return;
    absl::StatusOr<std::unique_ptr<SandboxProcess>> process = SandboxProcess::Start(command->spawn);
    if (!process.ok()) return;  // TakePython tries again, and reports
    warm_.push_back(*std::move(process));
  }
}

absl::StatusOr<std::unique_ptr<SandboxProcess>> SandboxPool::Bench::TakePython() {
  if (warm_.empty()) {
    RFT_ASSIGN_OR_RETURN(SandboxCommand command, sandbox_->Python());
    RFT_ASSIGN_OR_RETURN(std::unique_ptr<SandboxProcess> process,
                         SandboxProcess::Start(command.spawn));
    warm_.push_back(std::move(process));
  }
  std::unique_ptr<SandboxProcess> process = std::move(warm_.front());
  warm_.pop_front();
  RFT_RETURN_IF_ERROR(process->WaitReady(kReadyDeadlineS));
  return process;
}

SandboxPool::SandboxPool(std::shared_ptr<const Sandbox> sandbox, int num_threads, int num_warm) {
  for (int i = 0; i < num_threads; ++i) {
    auto bench = std::make_unique<Bench>();
    bench->sandbox_ = sandbox;
    bench->num_warm_ = static_cast<size_t>(num_warm);
    benches_.push_back(std::move(bench));
  }
  for (const std::unique_ptr<Bench>& bench : benches_) {
    threads_.emplace_back([this, &bench = *bench] { RunThread(bench); });
  }
}

SandboxPool::~SandboxPool() { Shutdown(); }

bool SandboxPool::Submit(Job job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return false;
    queue_.push_back(std::move(job));
  }
  changed_.notify_one();
  return true;
}

void SandboxPool::Shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void SandboxPool::RunThread(Bench& bench) {
  while (true) {
    bench.WarmUp();
    Job job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) break;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job(bench);
  }
  bench.warm_.clear();  // on the thread that started them
}

}  // namespace rft
