// What the model wrote, in the shape OpenAI's graders call `sample`: text, tool calls, choices.
//
//   "Sure.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>"
//   text "Sure."   tool_calls {{"add", "{\"a\": 1}"}}
//
// Tool calls are read as Hermes and Qwen models write them; `arguments` keeps the model's own spelling, since graders compare
// it as text. Markup that holds no JSON object with a name is not a tool call and stays in the text.
//
// Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "absl/status/statusor.h"
#include "rft/core/types.h"

namespace rft {

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON text
};

struct Sample {
  std::string text;  // without tool calls; all of the completion if there are none
  std::vector<ToolCall> tool_calls;
  FinishReason finish_reason = FinishReason::kStop;
};

// Quick where there is no markup.
bool HasToolCallMarkup(std::string_view completion);
Sample ParseSample(std::string_view completion, FinishReason finish_reason);

// The first block of markup; nullopt: there is none. A block without its closing tag goes on to the end.
struct ToolCallBlock {
  size_t open = 0;        // where its opening tag starts
  std::string_view body;  // between the tags
  size_t end = 0;         // behind its closing tag
};
std::optional<ToolCallBlock> NextToolCallBlock(std::string_view completion);

// `tool_calls` as in a chat completion: [{"id": "call_0", "type": "function", "function": {"name", "arguments"}}].
boost::json::array ToolCallsJson(const Sample& sample);

// One of output_text, output_json, output_tools, choices; kInvalidArgument lists them. kFailedPrecondition: output_json where
// the text is not a JSON value, and says so.
absl::StatusOr<boost::json::value> SampleField(const Sample& sample, std::string_view field);
bool IsSampleField(std::string_view field);

}  // namespace rft
