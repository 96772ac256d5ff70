#include "graders/sandbox/code_text.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr size_t kMaxTests = 10'000;

// Backticks (or tildes) that begin the line, at least three, after at most three blanks; nullopt: not a fence.
std::optional<std::string_view> Fence(std::string_view line) {
  size_t start = line.find_first_not_of(' ');
  if (start == std::string_view::npos || start > 3) return std::nullopt;
  const char mark = line[start];
  if (mark != '`' && mark != '~') return std::nullopt;
  size_t end = start;
  while (end < line.size() && line[end] == mark) ++end;
  if (end - start < 3) return std::nullopt;
  return line.substr(start, end - start);
}

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string TextOf(const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_array()) {  // lines, as some datasets have them
    std::string text;
    for (const json::value& line : value.get_array()) absl::StrAppend(&text, TextOf(line), "\n");
    return text;
  }
  return ToJson(value);
}

absl::Status AddCase(const json::value& input, const json::value& output,
                     std::string_view entry_point, CodeTests& tests) {
  if (entry_point.empty()) {
    tests.stdio.push_back({TextOf(input), TextOf(output)});
    return absl::OkStatus();
  }
  json::object entry;
  entry["args"] = input.is_array() ? input : json::array{input};
  entry["expected"] = output;
  tests.tests.as_array().push_back(std::move(entry));
  return absl::OkStatus();
}

absl::StatusOr<CodeTests> FromCases(const json::array& cases, std::string_view entry_point) {
  CodeTests tests{.kind = "cases", .tests = json::array()};
  for (size_t i = 0; i < cases.size(); ++i) {
    const json::object* entry = cases[i].if_object();
    const json::value* input = entry == nullptr ? nullptr : entry->if_contains("input");
    const json::value* output = entry == nullptr ? nullptr : entry->if_contains("output");
    if (input == nullptr || output == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("test ", i + 1, " of the tests is not {\"input\": ..., \"output\": ...}"));
    }
    RFT_RETURN_IF_ERROR(AddCase(*input, *output, entry_point, tests));
  }
  return tests;
}

absl::StatusOr<CodeTests> FromLists(const json::object& lists, std::string_view entry_point) {
  const json::value* inputs = lists.if_contains("inputs");
  const json::value* outputs = lists.if_contains("outputs");
  if (inputs == nullptr || outputs == nullptr || !inputs->is_array() || !outputs->is_array() ||
      inputs->get_array().size() != outputs->get_array().size() || inputs->get_array().empty()) {
    return absl::InvalidArgumentError(
        "the tests are an object without \"inputs\" and \"outputs\" of the same, positive length");
  }
  CodeTests tests{.kind = "cases", .tests = json::array()};
  for (size_t i = 0; i < inputs->get_array().size(); ++i) {
    RFT_RETURN_IF_ERROR(
        AddCase(inputs->get_array()[i], outputs->get_array()[i], entry_point, tests));
  }
  return tests;
}

}  // namespace

std::string ExtractCode(std::string_view completion, const std::vector<std::string>& languages) {
  std::string found;
  bool any_fence = false;
  std::string block;
  std::string_view open;  // the fence of the block we are in
  bool wanted = false;
  for (size_t start = 0; start <= completion.size();) {
    const size_t end = std::min(completion.find('\n', start), completion.size());
    const std::string_view line = completion.substr(start, end - start);
    start = end + 1;
    const std::optional<std::string_view> fence = Fence(line);
    if (open.empty()) {
      if (!fence.has_value()) continue;
      any_fence = true;
      open = *fence;
      std::string_view info =
          line.substr(static_cast<size_t>(fence->data() - line.data()) + fence->size());
      info = Trimmed(info);
      const std::string language =
          absl::AsciiStrToLower(std::string(info.substr(0, info.find_first_of(" \t{"))));
      wanted = language.empty() ||
               std::find(languages.begin(), languages.end(), language) != languages.end();
      block.clear();
    } else if (fence.has_value() && (*fence)[0] == open[0] && fence->size() >= open.size() &&
               Trimmed(line).size() == fence->size()) {
      if (wanted) found = block;
      open = {};
    } else {
      block.append(line).push_back('\n');
    }
  }
  if (!open.empty() && wanted) found = block;
  return any_fence ? found : std::string(completion);
}

absl::StatusOr<CodeTests> ParseTests(std::string_view text, std::string_view entry_point) {
  const std::string_view trimmed = Trimmed(text);
  if (trimmed.empty()) return absl::InvalidArgumentError("the row has no tests");
  if (trimmed[0] != '[' && trimmed[0] != '{') {
    return CodeTests{.kind = "module", .tests = json::string(text)};
  }
  absl::StatusOr<json::value> parsed = ParseJson(trimmed);
  // "[1, 2].sort()" is Python, not JSON.
  if (!parsed.ok()) return CodeTests{.kind = "module", .tests = json::string(text)};
  if (parsed->is_object()) return FromLists(parsed->get_object(), entry_point);
  const json::array& list = parsed->get_array();
  if (list.empty()) return absl::InvalidArgumentError("the row has no tests");
  if (list.size() > kMaxTests) {
    return absl::InvalidArgumentError(absl::StrCat(list.size(), " tests; at most ", kMaxTests));
  }
  if (list[0].is_object()) return FromCases(list, entry_point);
  for (const json::value& statement : list) {
    if (!statement.is_string())
      return absl::InvalidArgumentError("the tests are neither statements nor cases");
  }
  return CodeTests{.kind = "statements", .tests = *std::move(parsed)};
}

bool SameOutput(std::string_view actual, std::string_view expected) {
  const auto lines_of = [](std::string_view text) {
    std::vector<std::string> lines =
        absl::StrSplit(absl::string_view(text.data(), text.size()), '\n');
    for (std::string& line : lines) absl::StripTrailingAsciiWhitespace(&line);
    while (!lines.empty() && lines.back().empty()) lines.pop_back();
    return lines;
  };
  return lines_of(actual) == lines_of(expected);
}

}  // namespace rft
