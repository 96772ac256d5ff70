// What a run keeps an eye on about its graders: that they are still the ones it began with, and that they judge at all.
// Pure but for the files read.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/grader_pool.h"
#include "rft/core/file_system.h"
#include "rft/core/grader_spec.h"
#include "rollout/step_batch.h"

namespace rft {

// Grader -> SHA-256 of what decides its scores: type, weight, the type's keys, and the file of a Python function or of a
// grader JSON. A file that can't be read counts as empty. What a function imports is not covered.
using GraderHashes = std::map<std::string, std::string>;
GraderHashes HashGraders(const std::vector<GraderSpec>& graders, FileSystem& fs);

std::string GraderHashesToJson(const GraderHashes& hashes);  // {"graders": {NAME: HASH}}
absl::StatusOr<GraderHashes> GraderHashesFromJson(std::string_view text);

// Names that are in one of them only, or differ.
std::vector<std::string> ChangedGraders(const GraderHashes& before, const GraderHashes& now);

// A grader that could not judge more of a step's rollouts than its max_failure_rate allows.
struct GraderAlarm {
  std::string grader;
  int64_t num_failures = 0;
  int64_t num_grades = 0;
  double max_failure_rate = 0.0;
  std::string reason;      // of the first failure
  std::set<int64_t> rows;  // of the failures: lines of the dataset, from 0, blank ones not counted
  std::string RowsText() const;  // "rows 3, 17, 20 and 9 more": ten at most
};
std::vector<GraderAlarm> FindAlarms(const StepBatch& batch,
                                    const std::vector<GraderPool::Policy>& graders);

}  // namespace rft
