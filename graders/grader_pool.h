// All graders of a run: grades completions as they end.
//
//   GradeAsync --+--> NativePool (C++ graders, threads) ------+--> the last grade posts done --> callback thread
//     any thread '--> WorkerPool per Python grader (processes) '
//
// A grader that fails (error, timeout, dead worker) is asked again as often as its `retries` says
// (graders/failure_policy.h).
// Each grader has its own deadline per completion, which starts when the grader begins with it. Whatever a grader does
// (throw, NaN, hang, crash), `done` is called exactly once, with one grade per grader in the order they were added.
//
// Thread safety: GradeAsync from any thread. AddGrader before the first GradeAsync, from one thread. Shutdown not from a
// `done`.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <boost/asio/thread_pool.hpp>

#include "absl/status/statusor.h"
#include "graders/async_grader.h"
#include "graders/failure_policy.h"
#include "graders/native_pool.h"

namespace rft {

struct GraderPoolOptions {
  int num_threads = 2;  // for C++ graders, >= 1
};

class GraderPool {
 public:
  using Done = std::function<void(std::vector<NamedGrade>)>;

  // kInvalidArgument: all mistakes of all specs, one per line. kFailedPrecondition: a Python function that can't be loaded,
  // or workers that don't start: waits until each Python grader has one worker ready.
  static absl::StatusOr<std::unique_ptr<GraderPool>> Create(const std::vector<GraderSpec>& specs,
                                                            const GraderPoolOptions& options = {});
  // kInvalidArgument: graders that read a column which rows of the dataset `path` lack, one per line. A grader without weight
  // may go without it on some rows, but not on all.
  absl::Status CheckColumns(const std::string& path,
                            absl::Span<const std::shared_ptr<const Row>> rows) const;
  ~GraderPool();  // Shutdown

  // `spec` gives name, weight, deadline and failure policy; its type and other params are not read. Waits as Create does.
  // kInvalidArgument: no name, a name already there, a bad weight or deadline.
  absl::Status AddGrader(GraderSpec spec, std::unique_ptr<Grader> grader);

  // `done` runs on the pool's callback thread, one call at a time; it should be quick. After Shutdown every grade is
  // GradeError("shut down"). `group_size`: how many completions rollout->group has, for graders that compare them; 0: not
  // known here.
  void GradeAsync(std::shared_ptr<const Row> row, std::shared_ptr<const Rollout> rollout, Done done,
                  int32_t group_size = 0);

  // Answers what has not finished with GradeError("shut down"), ends the worker processes, and returns when the last
  // `done` has. A C++ grader that hangs holds it up for a second. Idempotent.
  void Shutdown();

  std::vector<std::string> names() const;
  std::vector<double> weights() const;

  struct Policy {
    std::string name;
    double weight = 1.0;
    FailurePolicy policy;
  };
  std::vector<Policy> policies() const;
  int64_t num_late_answers() const { return native_.stats().num_late_answers; }

 private:
  struct Entry {
    GraderSpec spec;
    FailurePolicy policy;
    std::shared_ptr<const Grader> grader;
    std::shared_ptr<const AsyncGrader> async;  // the same object, if it is one
    std::vector<ColumnUse> columns;            // that its templates read
  };
  struct Pending;

  explicit GraderPool(const GraderPoolOptions& options);
  absl::Status Add(GraderSpec spec, std::unique_ptr<Grader> grader);  // without Prepare
  absl::Status AddAll(const std::vector<GraderSpec>& specs);
  void Start(size_t entry, std::shared_ptr<const GradeJob> job, int64_t tries_left,
             std::function<void(Grade)> done);
  void Finish(const std::shared_ptr<Pending>& pending);

  std::vector<Entry> entries_;
  NativePool native_;
  std::atomic<bool> shut_down_{false};
  std::mutex mutex_;
  std::condition_variable all_done_;
  int64_t num_pending_ = 0;
  boost::asio::thread_pool callbacks_{1};
};

}  // namespace rft
