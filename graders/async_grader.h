// A grader whose answer comes later, from elsewhere (a worker process, a server), and which enforces its own deadline.
// GraderPool waits for its answers without holding a thread.
//
// Thread safety: Prepare, Columns, Start and Shutdown may be called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "graders/grader.h"

namespace rft {

// One completion to grade, owning what a GradeInput only views.
struct GradeJob {
  std::shared_ptr<const Row> row;  // never null
  std::string completion;
  std::vector<TokenId> token_ids;  // of all model segments, one after another
  FinishReason finish_reason = FinishReason::kStop;
  int64_t step = 0;  // it was sampled for
  int64_t group = 0;
  int32_t group_size = 0;  // 0: not known

  static std::shared_ptr<const GradeJob> From(std::shared_ptr<const Row> row,
                                              const Rollout& rollout, int32_t group_size = 0);
  // Valid as long as this job.
  GradeInput Input() const { return GradeInput{*row, completion, token_ids, finish_reason}; }
};

class AsyncGrader : public Grader {
 public:
  // Starts what it needs (processes, connections) and waits until it can grade. Calling it is optional: Start does the
  // same without waiting. An error means that it will never be able to grade, and says why.
  virtual absl::Status Prepare() const = 0;

  // The columns that every row must have for it, as far as Prepare has found out (what its templates read is known before).
  virtual std::vector<ColumnUse> Columns() const { return {}; }

  // Calls `done` exactly once, possibly before Start returns, on a thread of its own or the caller's; `done` must be
  // quick. After Shutdown the answer is GradeError("shut down").
  virtual void Start(std::shared_ptr<const GradeJob> job,
                     std::function<void(Grade)> done) const = 0;

  // Answers everything in flight with GradeError("shut down") and gives back what was started; waits for it. Idempotent.
  // Must not be called from a `done`.
  virtual void Shutdown() const = 0;

  // Start, and wait. The deadline is enforced by the implementation.
  Grade Run(const GradeInput& input) const final;
};

}  // namespace rft
