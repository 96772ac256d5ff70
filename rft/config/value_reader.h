// One value of the configuration tree -> one typed field, checked against its declaration.
#pragma once

#include <string>

#include "rft/config/config_tree.h"
#include "rft/config/field.h"
#include "rft/config/mistakes.h"

namespace rft {

// A wrong type, a number out of range or a text outside the choices adds a mistake and leaves the
// field as it was. REQUIRES: `field` is not the list of graders (grader_reader.h).
void ReadValue(const ConfigNode& node, const std::string& path, const FieldInfo& info,
               const FieldRef& field, Mistakes* mistakes);

// ">= 1", "> 0 and <= 1"; empty when every number is allowed.
std::string RangeText(const FieldInfo& info);

}  // namespace rft
