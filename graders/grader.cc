#include "graders/grader.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/text.h"

namespace rft {

absl::StatusOr<std::unique_ptr<Grader>> CreateGrader(const GraderSpec& spec) {
  const GraderRegistry& registry = GraderRegistry::Get();
  if (const auto* factory = registry.Find(spec.type)) return (*factory)(spec);
  const std::vector<std::string> known = registry.Names();
  const std::optional<std::string> near = DidYouMean(spec.type, known);
  return absl::InvalidArgumentError(absl::StrCat(
      "graders[", spec.name.empty() ? spec.type : spec.name, "].type: unknown grader type \"",
      spec.type, "\"", near ? "; did you mean " + *near + "?" : "",
      " (known types: ", absl::StrJoin(known, ", "), ")"));
}

}  // namespace rft
