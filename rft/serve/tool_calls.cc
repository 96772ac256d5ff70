#include "rft/serve/tool_calls.h"

#include <algorithm>
#include <optional>

#include "rft/io/json.h"

namespace rft::serve {
namespace {

constexpr std::string_view kOpen = "<tool_call>";
constexpr std::string_view kClose = "</tool_call>";

std::optional<ToolCall> ParseCall(std::string_view text) {
  const absl::StatusOr<json::value> value = ParseJson(text);
  if (!value.ok() || !value->is_object()) return std::nullopt;
  const json::object& object = value->get_object();
  const absl::StatusOr<std::string> name = GetString(object, "name");
  if (!name.ok() || name->empty()) return std::nullopt;
  const json::value* arguments = object.if_contains("arguments");
  if (arguments == nullptr) arguments = object.if_contains("parameters");
  if (arguments == nullptr) return ToolCall{*name, "{}"};
  if (arguments->is_string()) {
    const json::string& given = arguments->get_string();
    return ToolCall{*name, std::string(given.data(), given.size())};
  }
  return ToolCall{*name, ToJson(*arguments)};
}

// How many bytes at the end of `text` may be the beginning of `tag`.
size_t BegunAtTheEnd(std::string_view text, std::string_view tag) {
  for (size_t length = std::min(tag.size() - 1, text.size()); length > 0; --length)
    if (text.substr(text.size() - length) == tag.substr(0, length)) return length;
  return 0;
}

bool IsBlank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

}  // namespace

void ToolCallParser::Scan(Piece& piece) {
  while (true) {
    if (!inside_) {
      const size_t open = held_.find(kOpen);
      const size_t end = open != held_.npos ? open : held_.size() - BegunAtTheEnd(held_, kOpen);
      const std::string text = held_.substr(0, end);
      // The line breaks between calls are the template's, not the model's words.
      const bool between = after_call_ && IsBlank(text);
      if (between && open == held_.npos) return;
      if (!between) {
        piece.content += text;
        after_call_ = false;
      }
      held_.erase(0, end);
      if (open == held_.npos) return;
      inside_ = true;
    }
    const size_t close = held_.find(kClose);
    if (close == held_.npos) return;
    const std::string_view body =
        std::string_view(held_).substr(kOpen.size(), close - kOpen.size());
    if (auto call = ParseCall(body)) {
      piece.calls.push_back(*std::move(call));
      after_call_ = true;
    } else {
      piece.content += held_.substr(0, close + kClose.size());
    }
    held_.erase(0, close + kClose.size());
    inside_ = false;
  }
}

ToolCallParser::Piece ToolCallParser::Add(std::string_view text) {
  held_ += text;
  Piece piece;
  Scan(piece);
  return piece;
}

ToolCallParser::Piece ToolCallParser::Finish() {
  Piece piece;
  if (inside_) {
    if (auto call = ParseCall(std::string_view(held_).substr(kOpen.size()))) {
      piece.calls.push_back(*std::move(call));
      held_.clear();
    }
  }
  if (!(after_call_ && IsBlank(held_))) piece.content = std::move(held_);
  held_.clear();
  return piece;
}

}  // namespace rft::serve
