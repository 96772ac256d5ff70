#include "rft/config/mistakes.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/text.h"

namespace rft {
namespace {

int LineOf(const std::string& where) {
  const size_t colon = where.rfind(':');
  int line = std::numeric_limits<int>::max();
  if (colon != std::string::npos)
    std::from_chars(where.data() + colon + 1, where.data() + where.size(), line);
  return line;
}

std::string LastPart(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::optional<std::string> Suggest(const std::string& prefix, const std::string& key,
                                   const std::vector<std::string>& siblings,
                                   const std::vector<std::string>& all_paths) {
  if (auto sibling = DidYouMean(key, siblings)) return prefix + *sibling;
  for (const std::string& path : all_paths) {
    if (LastPart(path) == key) return path;
  }
  std::vector<std::string> names;
  for (const std::string& path : all_paths) names.push_back(LastPart(path));
  const auto similar = DidYouMean(key, names);
  if (!similar) return std::nullopt;
  return all_paths[static_cast<size_t>(std::find(names.begin(), names.end(), *similar) -
                                       names.begin())];
}

}  // namespace

void Mistakes::Add(const std::string& where, const std::string& path, const std::string& what) {
  mistakes_.push_back({LineOf(where), absl::StrCat(where, ": ", path, ": ", what)});
}

void Mistakes::AddUnknownKey(const std::string& where, const std::string& prefix,
                             const std::string& key, const std::vector<std::string>& siblings,
                             const std::vector<std::string>& all_paths) {
  const auto suggestion = Suggest(prefix, key, siblings, all_paths);
  Add(where, prefix + key,
      suggestion ? absl::StrCat("unknown key; did you mean ", *suggestion, "?")
                 : absl::StrCat("unknown key; known here: ", absl::StrJoin(siblings, ", ")));
}

absl::Status Mistakes::status() const {
  if (mistakes_.empty()) return absl::OkStatus();
  std::vector<Mistake> sorted = mistakes_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Mistake& a, const Mistake& b) { return a.line < b.line; });
  std::vector<std::string> lines;
  for (const Mistake& mistake : sorted) lines.push_back(mistake.text);
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace rft
