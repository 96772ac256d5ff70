// Grading completions that already exist, without a model: what `rft grade` runs. Knows no Python.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/core/grader_spec.h"
#include "rft/core/types.h"

namespace rft::python {

struct TimedGrade {
  Grade grade;
  // Wall time of the call; for a grader in worker processes, since its previous answer (or the call's start, if later).
  double seconds = 0.0;
};

// A line as a dataset has it; `messages` may be missing here. kInvalidArgument: not a JSON object, or broken messages.
absl::StatusOr<std::shared_ptr<const Row>> ParseGradedRow(const std::string& line, int64_t index);

// result[i][g]: grader g on completions[i]. num_threads: for C++ graders. over_s: completions are handed over evenly in this
// time, as those of a run end one after the other; 0: at once. settle_s: between the graders' start and that.
// REQUIRES: rows, completions and token_ids have the same length. kInvalidArgument: all mistakes of all specs, one per line;
// kFailedPrecondition: a Python function that can't be loaded.
absl::StatusOr<std::vector<std::vector<TimedGrade>>> GradeOffline(
    const std::vector<GraderSpec>& specs, const std::vector<std::shared_ptr<const Row>>& rows,
    const std::vector<std::string>& completions, const std::vector<std::vector<TokenId>>& token_ids,
    int num_threads, double over_s = 0.0, double settle_s = 0.0);

// Seconds of the calling thread's CPU time that grading all completions `repeats` times takes: Run in a loop, without the pool.
// REQUIRES: rows and completions have the same length. Status as of CreateGrader.
absl::StatusOr<double> TimeGrader(const GraderSpec& spec,
                                  const std::vector<std::shared_ptr<const Row>>& rows,
                                  const std::vector<std::string>& completions, int repeats);

}  // namespace rft::python
