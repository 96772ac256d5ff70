// What a step is trained on, and what was sampled for it in vain. Plain data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rft/core/types.h"
#include "rollout/zero_variance_filter.h"

namespace rft {

struct DroppedGroup {
  Group group;
  GroupVerdict verdict = GroupVerdict::kZeroVariance;
};

struct StepBatch {
  int64_t step = 0;
  std::vector<Group> groups;          // kept, by id, with rewards and advantages
  std::vector<DroppedGroup> dropped;  // by id
  int64_t num_replayed = 0;           // groups that came from the journal
  double sample_s = 0.0;              // wall time of sampling and grading

  // How often each reason dropped a group: {"all_right": 3, "truncated": 1}.
  std::map<std::string, int64_t> DropReasons() const {
    std::map<std::string, int64_t> reasons;
    for (const DroppedGroup& dropped_group : dropped)
      ++reasons[GroupVerdictName(dropped_group.verdict)];
    return reasons;
  }
};

}  // namespace rft
