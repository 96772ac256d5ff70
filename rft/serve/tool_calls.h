// Finds tool calls in what a model writes, in the form that the chat templates of Hermes and Qwen ask for:
//
//   I'll look it up. <tool_call>
//   {"name": "weather", "arguments": {"city": "Oslo"}}
//   </tool_call>
//
// Text is handed out as it comes, except what may begin a tag; a call when it is complete. What looks like a call but is
// no such JSON stays text. Pieces add up to the same however the text is cut.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rft::serve {

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON text, as OpenAI has it
};

class ToolCallParser {
 public:
  struct Piece {
    std::string content;
    std::vector<ToolCall> calls;
  };
  Piece Add(std::string_view text);
  // The rest: an unfinished call is text, unless only its closing tag is missing.
  Piece Finish();

 private:
  void Scan(Piece& piece);

  std::string held_;
  bool inside_ = false;      // after an opening tag, which held_ begins with
  bool after_call_ = false;  // nothing but blanks since
};

}  // namespace rft::serve
