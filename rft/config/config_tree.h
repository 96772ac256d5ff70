// YAML (and JSON, which is YAML) as a tree that remembers where everything was written, with --set
// overrides merged in. The only place that knows yaml-cpp.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rft {

struct ConfigNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;     // of a scalar, as written, without quotes
  bool quoted = false;  // a quoted scalar is text, never a number
  std::string where;    // "run.yaml:14" or "--set"
  std::vector<std::pair<std::string, ConfigNode>> members;  // of a map, in order
  std::vector<ConfigNode> items;                            // of a list

  const ConfigNode* Find(std::string_view key) const;
  ConfigNode* Find(std::string_view key);
};

// `name` is what messages call the text. kInvalidArgument for a syntax error (with line and
// column), duplicate keys (all of them), several documents, more than 64 levels or 200,000 values
// (aliases count each time they are used).
absl::StatusOr<ConfigNode> ParseYaml(std::string_view text, const std::string& name);

// Applies "a.b=c": the value is parsed as YAML; missing sections are created; "graders.0.weight=2"
// reaches into a list. `from` is what messages call the source: "--set". kInvalidArgument if there is no '=' or the path runs through something that
// is not a section.
absl::Status ApplyOverride(const std::string& override_text, const std::string& from,
                           ConfigNode* root);

// The node as JSON text; plain scalars that are JSON numbers, true, false or null stay so,
// everything else is quoted.
std::string NodeToJson(const ConfigNode& node);

}  // namespace rft
