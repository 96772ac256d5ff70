#include "graders/sample.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"

namespace rft {
namespace {

constexpr std::string_view kOpen = "<tool_call>";
constexpr std::string_view kClose = "</tool_call>";
constexpr const char* kFields[] = {"output_text", "output_json", "output_tools", "choices"};

// The end of the JSON value that starts at `at` of valid JSON text.
size_t EndOfValue(std::string_view text, size_t at) {
  int depth = 0;
  bool in_string = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') {
        ++at;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      --depth;
    } else if (c == ',' && depth == 0) {
      return at;
    }
  }
  return at;
}

// The text of member `key` of an object, as written. REQUIRES: `text` is a valid JSON object without leading blanks.
std::optional<std::string> RawMember(std::string_view text, std::string_view key) {
  size_t at = 1;
  while ((at = text.find('"', at)) != std::string_view::npos) {
    size_t end = at + 1;
    while (text[end] != '"') end += text[end] == '\\' ? 2 : 1;
    const std::string_view name = text.substr(at + 1, end - at - 1);
    const size_t value = text.find_first_not_of(" \t\r\n", text.find(':', end) + 1);
    const size_t value_end = EndOfValue(text, value);
    if (name == key) {
      std::string raw(text.substr(value, value_end - value));
      absl::StripTrailingAsciiWhitespace(&raw);
      return raw;
    }
    at = value_end;
  }
  return std::nullopt;
}

std::optional<ToolCall> ParseToolCall(std::string_view text) {
  const std::string trimmed(absl::StripAsciiWhitespace({text.data(), text.size()}));
  const absl::StatusOr<json::value> parsed = ParseJson(trimmed);
  if (!parsed.ok() || !parsed->is_object()) return std::nullopt;
  const json::object& object = parsed->get_object();
  const json::value* name = object.if_contains("name");
  if (name == nullptr || !name->is_string()) return std::nullopt;
  ToolCall call{std::string(name->get_string()), "{}"};
  for (const char* key : {"arguments", "parameters"}) {
    const json::value* arguments = object.if_contains(key);
    if (arguments == nullptr) continue;
    call.arguments = arguments->is_string() ? std::string(arguments->get_string())
                                            : RawMember(trimmed, key).value_or(ToJson(*arguments));
    break;
  }
  return call;
}

}  // namespace

bool HasToolCallMarkup(std::string_view completion) {
  return completion.find(kOpen) != std::string_view::npos;
}

std::optional<ToolCallBlock> NextToolCallBlock(std::string_view completion) {
  const size_t open = completion.find(kOpen);
  if (open == std::string_view::npos) return std::nullopt;
  const size_t close = completion.find(kClose, open + kOpen.size());
  const bool closed = close != std::string_view::npos;
  // A block begins at the last opening tag before its end: every byte is looked at once, however many tags there are.
  const std::string_view inside = completion.substr(0, close);
  size_t last = open;
  for (size_t next = open; next != std::string_view::npos;
       next = inside.find(kOpen, next + kOpen.size()))
    last = next;
  const size_t body = last + kOpen.size();
  const size_t end = closed ? close + kClose.size() : completion.size();
  return ToolCallBlock{last, completion.substr(body, (closed ? close : end) - body), end};
}

Sample ParseSample(std::string_view completion, FinishReason finish_reason) {
  Sample sample;
  sample.finish_reason = finish_reason;
  while (const std::optional<ToolCallBlock> block = NextToolCallBlock(completion)) {
    std::optional<ToolCall> call = ParseToolCall(block->body);
    sample.text += completion.substr(0, call.has_value() ? block->open : block->end);
    if (call.has_value()) sample.tool_calls.push_back(*std::move(call));
    completion.remove_prefix(block->end);
  }
  sample.text += completion;
  if (!sample.tool_calls.empty()) absl::StripAsciiWhitespace(&sample.text);
  return sample;
}

json::array ToolCallsJson(const Sample& sample) {
  json::array calls;
  for (const ToolCall& call : sample.tool_calls) {
    calls.push_back(json::object{
        {"id", absl::StrCat("call_", calls.size())},
        {"type", "function"},
        {"function", json::object{{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return calls;
}

bool IsSampleField(std::string_view field) {
  for (const char* known : kFields) {
    if (field == known) return true;
  }
  return false;
}

absl::StatusOr<json::value> SampleField(const Sample& sample, std::string_view field) {
  if (field == "output_text") return json::value(sample.text);
  if (field == "output_tools") return json::value(ToolCallsJson(sample));
  if (field == "output_json") {
    absl::StatusOr<json::value> parsed = ParseJson(sample.text);
    if (parsed.ok()) return *std::move(parsed);
    return absl::FailedPreconditionError(
        absl::StrCat("the completion is not JSON: ", parsed.status().message()));
  }
  if (field == "choices") {
    json::object message{{"role", "assistant"}, {"content", sample.text}};
    if (!sample.tool_calls.empty()) message["tool_calls"] = ToolCallsJson(sample);
    return json::value(
        json::array{json::object{{"index", 0},
                                 {"message", std::move(message)},
                                 {"finish_reason", FinishReasonName(sample.finish_reason)}}});
  }
  return absl::InvalidArgumentError(
      absl::StrCat("sample.", std::string(field),
                   " is unknown; known: output_text, output_json, output_tools, choices"));
}

}  // namespace rft
