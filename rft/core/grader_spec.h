// One entry of `graders:` in run.yaml, as graders receive it. Plain data, std only, so that
// rft/config can fill it without knowing graders.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace rft {

// A column that a grader reads off every row, and what reads it: "run.yaml:14: graders[exact].reference".
struct ColumnUse {
  std::string where;
  std::string column;
};

// `params` holds the keys the grader type itself defines, as text (a YAML scalar as written; a
// sequence or map as JSON text).
struct GraderSpec {
  std::string
      name;  // how metrics and rollouts.jsonl call it; default: the function's name, or the type
  std::string type;          // registered name
  double weight = 1.0;       // in the weighted sum that makes the reward
  double deadline_s = 10.0;  // per completion, enforced from outside
  std::map<std::string, std::string> params;
  std::map<std::string, std::string>
      param_locations;   // param -> "run.yaml:14", for messages; may be empty
  std::string base_dir;  // folder of run.yaml: relative paths in params start here
  // While a grader is created: where its templates note the columns they read (GraderPool); else null.
  std::vector<ColumnUse>* columns = nullptr;
};

}  // namespace rft
