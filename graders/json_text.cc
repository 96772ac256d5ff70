#include "graders/json_text.h"

#include <algorithm>
#include <cmath>

namespace rft {
namespace {

constexpr std::string_view kFence = "```";
constexpr size_t kMaxBytes = size_t{16} << 20;

bool NumbersEqual(const json::value& a, const json::value& b, double tolerance) {
  if (a.is_int64() && b.is_int64() && a.get_int64() == b.get_int64()) return true;
  if (a.is_uint64() && b.is_uint64() && a.get_uint64() == b.get_uint64()) return true;
  const absl::StatusOr<double> x = ToDouble(a);
  const absl::StatusOr<double> y = ToDouble(b);
  if (!x.ok() || !y.ok()) return false;
  if (tolerance > 0) return std::abs(*x - *y) <= tolerance * std::max(1.0, std::abs(*y));
  // Whole numbers beyond 2^53 that a double can't tell apart were compared above.
  return *x == *y && (a.is_double() || b.is_double());
}

}  // namespace

std::string_view FencedOrAll(std::string_view text) {
  std::string_view last = text;
  for (size_t pos = text.find(kFence); pos != std::string_view::npos;) {
    const size_t line_end = text.find('\n', pos);
    if (line_end == std::string_view::npos) break;
    const size_t close = text.find(kFence, line_end);
    if (close == std::string_view::npos) break;
    std::string_view language = text.substr(pos + kFence.size(), line_end - pos - kFence.size());
    while (!language.empty() && (language.back() == ' ' || language.back() == '\r'))
      language.remove_suffix(1);
    if (language.empty() || language == "json" || language == "JSON")
      last = text.substr(line_end + 1, close - line_end - 1);
    pos = text.find(kFence, close + kFence.size());
  }
  return last;
}

absl::StatusOr<json::value> ParseModelJson(std::string_view text, bool fences) {
  return ParseJson(fences ? FencedOrAll(text) : text, {.max_bytes = kMaxBytes});
}

bool JsonEqual(const json::value& a, const json::value& b, double tolerance) {
  if (a.is_number() && b.is_number()) return NumbersEqual(a, b, tolerance);
  if (a.kind() != b.kind()) return false;
  if (a.is_array()) {
    const json::array &x = a.get_array(), &y = b.get_array();
    return std::equal(
        x.begin(), x.end(), y.begin(), y.end(),
        [&](const json::value& i, const json::value& j) { return JsonEqual(i, j, tolerance); });
  }
  if (a.is_object()) {
    const json::object &x = a.get_object(), &y = b.get_object();
    if (x.size() != y.size()) return false;
    return std::all_of(x.begin(), x.end(), [&](const json::key_value_pair& member) {
      const json::value* other = y.if_contains(member.key());
      return other != nullptr && JsonEqual(member.value(), *other, tolerance);
    });
  }
  return a == b;
}

}  // namespace rft
