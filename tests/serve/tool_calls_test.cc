#include "rft/serve/tool_calls.h"

#include <gtest/gtest.h>

namespace rft::serve {
namespace {

constexpr const char* kTwoCalls =
    "Let me see. <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": "
    "\"Oslo\"}}\n</tool_call>\n"
    "<tool_call>\n{\"name\": \"time\", \"arguments\": \"{}\"}\n</tool_call>";

// content + "#name(arguments)" of every call, however the text is cut.
std::string Parse(const std::string& text, size_t step) {
  ToolCallParser parser;
  std::string content, calls;
  auto take = [&](const ToolCallParser::Piece& piece) {
    content += piece.content;
    for (const ToolCall& call : piece.calls) calls += "#" + call.name + "(" + call.arguments + ")";
  };
  for (size_t at = 0; at < text.size(); at += step) take(parser.Add(text.substr(at, step)));
  take(parser.Finish());
  return content + calls;
}

class ToolCallParserTest : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(AnyCut, ToolCallParserTest, ::testing::Values(1, 2, 3, 7, 1000));

TEST_P(ToolCallParserTest, FindsCallsAndTheTextAroundThem) {
  EXPECT_EQ(Parse(kTwoCalls, GetParam()), "Let me see. #weather({\"city\": \"Oslo\"})#time({})");
}

TEST_P(ToolCallParserTest, LeavesWhatIsNoCallInTheText) {
  for (const char* text : {"a < b <tool", "<tool_call>not JSON</tool_call>after",
                           "<tool_call>{\"arguments\": {}}</tool_call>", "<tool_call>{\"name\": 3"})
    EXPECT_EQ(Parse(text, GetParam()), text);
}

TEST_P(ToolCallParserTest, TakesACallWhoseClosingTagIsMissing) {
  EXPECT_EQ(Parse("<tool_call>{\"name\": \"f\"}", GetParam()), "#f({})");
}

TEST_P(ToolCallParserTest, KeepsWordsBetweenCalls) {
  EXPECT_EQ(Parse("<tool_call>{\"name\": \"f\"}</tool_call>  and <tool_call>{\"name\": "
                  "\"g\"}</tool_call>",
                  GetParam()),
            "  and #f({})#g({})");
}

TEST(ToolCallParserTest, HandsOutTextThatCanBeNoTagAtOnce) {
  ToolCallParser parser;
  EXPECT_EQ(parser.Add("one <").content, "one ");
  EXPECT_EQ(parser.Add(" two").content, "< two");
}

}  // namespace
}  // namespace rft::serve
