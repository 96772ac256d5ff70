// The part of GraderPool that compares what graders read with what a dataset has.
#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/grader_pool.h"
#include "rft/core/text.h"

namespace rft {
namespace {

using Rows = absl::Span<const std::shared_ptr<const Row>>;

// "no row of train.jsonl has a column "anwser"; did you mean answer? (columns: answer, kind)"
std::string NoRowHas(const std::string& column, const std::string& path, Rows rows) {
  std::set<std::string> names;
  for (const auto& row : rows)
    for (const auto& [name, value] : row->columns) names.insert(name);
  const std::vector<std::string> known(names.begin(), names.end());
  const std::optional<std::string> near = DidYouMean(column, known);
  return absl::StrCat("no row of ", path, " has a column \"", column, "\"",
                      near ? "; did you mean " + *near + "?" : "", " (columns: ",
                      known.empty() ? "none but messages" : absl::StrJoin(known, ", "), ")");
}

}  // namespace

absl::Status GraderPool::CheckColumns(const std::string& path, Rows rows) const {
  std::vector<std::string> mistakes;
  for (const Entry& entry : entries_) {
    std::vector<ColumnUse> uses = entry.columns;
    if (entry.async != nullptr)
      for (ColumnUse& use : entry.async->Columns()) uses.push_back(std::move(use));
    for (const ColumnUse& use : uses) {
      const auto lacks = [&](const auto& row) { return !row->columns.contains(use.column); };
      const auto first = std::find_if(rows.begin(), rows.end(), lacks);
      const auto count = std::count_if(first, rows.end(), lacks);
      const bool all = count == rows.end() - rows.begin();
      if (count == 0 || (!all && entry.spec.weight == 0.0)) continue;
      mistakes.push_back(absl::StrCat(
          use.where, ": ",
          all ? NoRowHas(use.column, path, rows)
              : absl::StrCat(count, " of ", rows.size(), " rows of ", path, " have no column \"",
                             use.column, "\", the first of them is row ", (*first)->index,
                             " (blank lines aside, counted from 0)")));
    }
  }
  return mistakes.empty() ? absl::OkStatus()
                          : absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n"));
}

}  // namespace rft
