#include "graders/extract.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "graders/unicode_text.h"
#include "graders/user_regex.h"
#include "rft/core/text.h"

namespace rft {
namespace {

// Whether `part` of `text` is up to 16 bytes of ASCII without a line's end; false may mean that it was not looked at.
bool IsShortPlain(std::string_view text, std::string_view part) {
#if defined(__SSE2__)
  constexpr size_t kBytes = 16;
  if (text.size() < kBytes || part.size() > kBytes) return false;
  const auto at = static_cast<size_t>(part.data() - text.data());
  const size_t load = std::min(at, text.size() - kBytes);
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + load));
  const __m128i newline = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'));
  const auto others = static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(bytes, newline)));
  const uint32_t of_part = ((uint32_t{1} << part.size()) - 1) << (at - load);
  return (others & of_part) == 0;
#else
  return false;
#endif
}

}  // namespace

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
    result.between_ = ReadBetween(pattern);
  }
  return result;
}

std::optional<Extract::Between> Extract::ReadBetween(std::string_view pattern) {
  constexpr std::string_view kGroup = "(.*?)", kNewlines = "(?s)", kSpecial = "\\.+*?()|[]{}^$";
  Between between;
  if (pattern.starts_with(kNewlines)) {
    between.newlines = true;
    pattern.remove_prefix(kNewlines.size());
  }
  const size_t group = pattern.find(kGroup);
  if (group == std::string_view::npos) return std::nullopt;
  const auto literal = [&](std::string_view written, std::string* text) {
    for (size_t i = 0; i < written.size(); ++i) {
      const bool escaped = written[i] == '\\' && i + 1 < written.size();
      if (escaped) ++i;
      // A backslash before a letter or a digit is more than that character.
      if (escaped != (kSpecial.find(written[i]) != std::string_view::npos)) return false;
      *text += written[i];
    }
    return !text->empty();
  };
  if (!literal(pattern.substr(0, group), &between.open) ||
      !literal(pattern.substr(group + kGroup.size()), &between.close))
    return std::nullopt;
  return between;
}

std::optional<std::optional<std::string_view>> Extract::FindBetween(std::string_view text) const {
  const auto& [open, close, newlines] = *between_;
  std::optional<std::string_view> chosen;
  for (size_t begin = 0;;) {
    const size_t at = text.find(open, begin);
    if (at == std::string_view::npos) break;
    const size_t content = at + open.size();
    const size_t end = text.find(close, content);
    if (end == std::string_view::npos) break;
    const std::string_view found = text.substr(content, end - content);
    if (IsShortPlain(text, found)) {
      chosen = found;
      if (!last_) break;
      begin = end + close.size();
      continue;
    }
    if (const size_t newline = found.rfind('\n'); !newlines && newline != std::string_view::npos) {
      // An opening one may follow on the last line; this way nothing is searched three times.
      begin =
          std::max(at + 1, content + newline + 1 - std::min(open.size(), content + newline + 1));
      continue;
    }
    if (!IsAscii(found) && FindInvalidUtf8(found).has_value()) return std::nullopt;
    chosen = found;
    if (!last_) break;
    begin = end + close.size();
  }
  return chosen;
}

std::optional<std::string_view> Extract::Find(std::string_view text) const {
  if (regex_ == nullptr) return text;
  if (between_.has_value()) {
    if (const auto found = FindBetween(text)) return *found;
  }
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
