// The `graders:` list -> GraderSpec. Keys that are not reserved (name, type, weight, deadline_s)
// are the grader type's own and become params, with the line each was written on.
#pragma once

#include <string>
#include <vector>

#include "rft/config/config_tree.h"
#include "rft/config/mistakes.h"
#include "rft/core/grader_spec.h"

namespace rft {

// `types`: registered names, or empty when any is allowed.
void ReadGraders(const ConfigNode& node, const std::vector<std::string>& types,
                 std::vector<GraderSpec>* graders, Mistakes* mistakes);

}  // namespace rft
