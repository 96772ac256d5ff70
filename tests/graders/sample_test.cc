#include "graders/sample.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rft/io/json.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Sample Parse(std::string_view completion) { return ParseSample(completion, FinishReason::kStop); }

TEST(SampleTest, IsTheCompletionWhereNoToolIsCalled) {
  const Sample sample = Parse("  2 + 3 = 5\n");
  EXPECT_EQ(sample.text, "  2 + 3 = 5\n");
  EXPECT_THAT(sample.tool_calls, IsEmpty());
}

TEST(SampleTest, TakesToolCallsOutOfTheTextAndKeepsTheSpellingOfTheirArguments) {
  const Sample sample = Parse(
      "Let me see.\n<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\":  \"a, \\\"}\", "
      "\"n\":[1,2]} }\n"
      "</tool_call>\n<tool_call>{\"arguments\": \"{\\\"x\\\": 1}\", \"name\": "
      "\"add\"}</tool_call>");
  EXPECT_EQ(sample.text, "Let me see.");
  ASSERT_THAT(sample.tool_calls, SizeIs(2));
  EXPECT_EQ(sample.tool_calls[0].name, "find");
  EXPECT_EQ(sample.tool_calls[0].arguments, "{\"q\":  \"a, \\\"}\", \"n\":[1,2]}");
  EXPECT_EQ(sample.tool_calls[1].arguments, "{\"x\": 1}");
}

TEST(SampleTest, ReadsACallThatWasCutOffAfterItsJson) {
  EXPECT_THAT(Parse("<tool_call>{\"name\": \"now\"}").tool_calls, SizeIs(1));
  EXPECT_EQ(Parse("<tool_call>{\"name\": \"now\"}").tool_calls[0].arguments, "{}");
}

TEST(SampleTest, LeavesBrokenCallsInTheText) {
  for (const char* text :
       {"<tool_call>{\"name\": \"a\"", "<tool_call>[1]</tool_call>", "<tool_call></tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>", "<tool_call><tool_call>", "</tool_call>"}) {
    EXPECT_EQ(Parse(text).text, text);
    EXPECT_THAT(Parse(text).tool_calls, IsEmpty());
  }
}

TEST(SampleTest, HasTheFieldsOfOpenAisSample) {
  const Sample sample =
      Parse("{\"total\": 3}<tool_call>{\"name\": \"f\", \"parameters\": {}}</tool_call>");
  EXPECT_EQ(ToJson(*SampleField(sample, "output_text")), R"("{\"total\": 3}")");
  EXPECT_EQ(ToJson(*SampleField(sample, "output_json")), R"({"total": 3})");
  const std::string calls =
      R"([{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}])";
  EXPECT_EQ(ToJson(*SampleField(sample, "output_tools")), calls);
  EXPECT_EQ(
      ToJson(*SampleField(sample, "choices")),
      R"([{"index": 0, "message": {"role": "assistant", "content": "{\"total\": 3}", "tool_calls": )" +
          calls + R"(}, "finish_reason": "stop"}])");
  EXPECT_THAT(std::string(SampleField(Parse("{oops"), "output_json").status().message()),
              HasSubstr("the completion is not JSON"));
  EXPECT_FALSE(SampleField(sample, "output_audio").ok());
}

}  // namespace
}  // namespace rft
