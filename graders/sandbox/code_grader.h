// A grader that executes what the model wrote, in sandboxes, on threads of its own.
//
// spec.deadline_s is the time that the code of one completion has, from the moment its sandbox is ready. Code that takes
// longer, dies or prints nothing has not passed: a Score of 0, for that is a verdict on the code. A GradeError means that we
// could not judge: no sandbox, or tests that are wrong whatever the solution.
// Thread safety: as AsyncGrader.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "graders/async_grader.h"
#include "graders/param_reader.h"
#include "graders/sandbox/sandbox_pool.h"
#include "graders/sandbox/test_outcome.h"
#include "graders/template.h"

namespace rft {

// When waiting for code ends: its deadline, or our shutdown.
class CodeClock {
 public:
  using Clock = SandboxProcess::Clock;
  CodeClock(double deadline_s, const std::atomic<bool>& stopping);
  void Restart() { Restart(deadline_s_); }  // the deadline counts from here
  void Restart(double deadline_s);
  void Extend(double seconds) {
    deadline_ +=
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  // As SandboxProcess::Pump; false: the deadline, or shutdown.
  bool Pump(absl::Span<SandboxProcess* const> processes) const;
  Clock::time_point deadline() const { return deadline_; }
  bool stopping() const { return stopping_; }

 private:
  const double deadline_s_;
  const std::atomic<bool>& stopping_;
  Clock::time_point deadline_;
};

struct CodeGraderOptions {
  std::string name;
  SandboxOptions sandbox;
  double deadline_s = 10.0;
  int num_workers = 2;  // executions at once
  int num_warm = 2;     // Python sandboxes kept ready by each
  Template tests;
  bool fenced = true;     // the code is the last fenced block, if there is one
  bool fraction = false;  // score: the share of tests that passed
};

class CodeGrader : public AsyncGrader {
 public:
  explicit CodeGrader(CodeGraderOptions options) : options_(std::move(options)) {}
  ~CodeGrader() override;  // derived classes call Shutdown in theirs

  absl::Status Prepare() const override;
  void Start(std::shared_ptr<const GradeJob> job, std::function<void(Grade)> done) const override;
  void Shutdown() const override;

  // Reads the keys that all of them have: tests, code, score, workers, memory_limit_mb, python, bwrap, allow_unisolated_code.
  static CodeGraderOptions ReadOptions(ParamReader& params, const GraderSpec& spec);

 protected:
  virtual absl::StatusOr<TestOutcome> Judge(const GradeJob& job, SandboxPool::Bench& bench,
                                            CodeClock& clock) const = 0;

  absl::StatusOr<std::string> TestsFor(const GradeJob& job) const;
  // What the completion has to run; `languages` as of ExtractCode.
  std::string CodeOf(const GradeJob& job, const std::vector<std::string>& languages) const;

 private:
  absl::Status Begin() const;  // under mutex_
  Grade Execute(const GradeJob& job, SandboxPool::Bench& bench, CodeClock& clock) const;

  const CodeGraderOptions options_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<SandboxPool> pool_;
  mutable absl::Status refused_;  // why there is no sandbox
  mutable std::map<uint64_t, std::function<void(Grade)>> pending_;
  mutable uint64_t next_id_ = 0;
  mutable bool shut_down_ = false;
  mutable std::atomic<bool> stopping_{false};
};

}  // namespace rft
