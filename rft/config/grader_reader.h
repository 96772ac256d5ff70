// The `graders:` list -> GraderSpec. Keys that are not reserved (name, type, weight, deadline_s)
// are the grader type's own and become params, with the line each was written on.
#pragma once

#include <string>
#include <vector>

#include "rft/config/config_tree.h"
#include "rft/config/mistakes.h"
#include "rft/core/grader_spec.h"

namespace rft {

// What a grader without a name is called: by the function it names ("rewards.py:exact" is exact), else by its type.
std::string DefaultGraderName(const GraderSpec& spec);

// Fills in missing names. Functions of the same name in different files are called by both, "rewards.exact"; other names that
// come twice are a mistake. `types`: registered names, or empty when any is allowed.
void ReadGraders(const ConfigNode& node, const std::vector<std::string>& types,
                 std::vector<GraderSpec>* graders, Mistakes* mistakes);

}  // namespace rft
