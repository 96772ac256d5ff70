// How a section of RunConfig declares its fields: once, beside the struct, with default, unit,
// range and description.
//
//   struct StopConfig {
//     int64_t no_signal_steps = 10;
//     void Visit(ConfigVisitor& v) {
//       v.Field("no_signal_steps", &no_signal_steps,
//               {.doc = "Stop after this many steps in a row ...", .unit = "steps", .min = 1});
//     }
//   };
//
// Reading, --set, the resolved dump, the JSON schema, the docs table and the Python classes are
// visitors.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rft/core/grader_spec.h"

namespace rft {

struct FieldInfo {
  const char* doc = "";
  const char* unit = "";
  double min = -std::numeric_limits<double>::infinity();    // smallest allowed number
  double above = -std::numeric_limits<double>::infinity();  // numbers must be greater than this
  double max = std::numeric_limits<double>::infinity();     // largest allowed number
  std::vector<std::string> choices = {};                    // of a text field; empty = any text
  bool required = false;
};

// The types a field may have. An unset optional is null in the resolved dump and means "the default
// of whoever uses it".
using FieldRef = std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*,
                              std::optional<bool>*, std::optional<double>*, std::optional<int64_t>*,
                              std::optional<std::string>*, std::vector<GraderSpec>*>;

class ConfigVisitor {
 public:
  virtual ~ConfigVisitor() = default;
  virtual void Field(const char* name, FieldRef field, const FieldInfo& info) = 0;
  virtual void BeginSection(const char* name, const char* doc) = 0;
  virtual void EndSection() = 0;

  template <typename Section>
  void Nested(const char* name, Section& section, const char* doc) {
    BeginSection(name, doc);
    section.Visit(*this);
    EndSection();
  }
};

}  // namespace rft
