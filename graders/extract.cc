#include "graders/extract.h"

#include "absl/strings/str_cat.h"
#include "graders/user_regex.h"

namespace rft {

Extract Extract::Read(ParamReader& params) {
  Extract result;
  result.last_ = params.Choice("pick", {"last", "first"}, "last") == "last";
  const std::string pattern = params.String("extract", "");
  if (pattern.empty()) return result;
  auto regex = std::make_shared<RE2>(pattern, UserRegexOptions());
  if (!regex->ok()) {
    params.AddError(
        "extract",
        absl::StrCat("\"", pattern, "\" is not a valid RE2 regular expression: ", regex->error()));
  } else if (regex->NumberOfCapturingGroups() < 1) {
    params.AddError("extract",
                    absl::StrCat("\"", pattern, "\" has no (group) around the part to judge"));
  } else {
    result.regex_ = std::move(regex);
  }
  return result;
}

std::optional<std::string_view> Extract::Find(std::string_view text) const {
  if (regex_ == nullptr) return text;
  const re2::StringPiece whole(text.data(), text.size());
  re2::StringPiece match[2];  // the whole match and its first group
  re2::StringPiece chosen;
  bool any = false;
  for (size_t begin = 0; begin <= whole.size();) {
    if (!regex_->Match(whole, begin, whole.size(), RE2::UNANCHORED, match, 2)) break;
    chosen = match[1];
    any = true;
    if (!last_) break;
    begin = static_cast<size_t>(match[0].data() + match[0].size() - whole.data());
    if (match[0].empty())
      ++begin;  // a pattern may match nothing; don't find the same nothing for ever
  }
  if (!any) return std::nullopt;
  return std::string_view(chosen.data(), chosen.size());
}

}  // namespace rft
