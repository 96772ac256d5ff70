#include "graders/template.h"

#include "gmock/gmock.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Render(const std::string& text, const std::string& completion = "",
                                   std::map<std::string, std::string> columns = {}) {
  const auto parsed = Template::Parse(text);
  if (!parsed.ok()) return parsed.status();
  const Row row = RowWith(std::move(columns));
  return parsed->Render(GradeInput{row, completion, {}, FinishReason::kStop});
}

TEST(TemplateTest, ReachesPartsOfAColumnByPath) {
  const std::map<std::string, std::string> columns = {
      {"person", R"({"name": "Ada", "tags": ["a", {"b c": 1.5}], "alive": false, "none": null})"},
      {"due date", "friday"}};
  const std::pair<const char*, const char*> cases[] = {
      {"{{item.person.name}}!", "Ada!"},
      {"{{ item.person.tags[0] }}", "a"},
      {"{{item.person.tags[1][\"b c\"]}}", "1.5"},
      {"{{item.person['tags'][1]}}", R"({"b c": 1.5})"},
      {"{{item.person.alive}} {{item.person.none}}", "false null"},
      {"{{item[\"due date\"]}}", "friday"},
  };
  for (const auto& [text, expected] : cases)
    EXPECT_EQ(Render(text, "", columns).value(), expected) << text;
}

TEST(TemplateTest, ReachesPartsOfTheSampleByPath) {
  const std::string calls = R"(<tool_call>{"name": "f", "arguments": {"x":1}}</tool_call>)";
  EXPECT_EQ(Render("{{sample.output_tools[0].function.name}}", calls).value(), "f");
  EXPECT_EQ(Render("{{sample.output_tools[0].function.arguments}}", calls).value(), R"({"x":1})");
  EXPECT_EQ(Render("{{sample.output_json.a[1]}}", R"({"a": [1, 2]})").value(), "2");
  EXPECT_EQ(Render("{{sample.choices[0].message.content}}", "hi").value(), "hi");
  EXPECT_EQ(Render("{{sample.output_text}}{{sample.output_text}}", "hi").value(), "hihi");
}

TEST(TemplateTest, SaysWhichPlaceholderCanNotBeRead) {
  EXPECT_THAT(std::string(Render("{{answer}}").status().message()),
              HasSubstr("{{answer}} is unknown; use"));
  EXPECT_THAT(std::string(Render("{{sample.text}}").status().message()),
              HasSubstr("sample has output_text"));
  for (const char* text :
       {"{{item.}}", "{{item.a..b}}", "{{item.a[}}", "{{item.a[x]}}", "{{item.a[0}}",
        "{{item.a[\"b]}}", "{{item[0]}}", "{{sample.}}", "{{item.a]}}"}) {
    EXPECT_EQ(Render(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(TemplateTest, TellsWhatTheRowLacksFromWhatTheCompletionLacks) {
  const auto row = Render("{{item.a.b}}", "", {{"a", "{}"}});
  EXPECT_EQ(row.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(row.status().message()),
              HasSubstr("row 7 has no item.a.b; its column \"a\" is {}"));
  const auto sample = Render("{{sample.output_json.a}}", "not json");
  EXPECT_EQ(sample.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Render("{{sample.output_tools[0]}}", "no call").status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GradeKind(GradeWithoutText(row.status())), std::string("error"));
  const Grade grade = GradeWithoutText(sample.status(), 1.0);
  EXPECT_EQ(ScoreOf(grade), 1.0);
  EXPECT_THAT(GradeReason(grade), HasSubstr("not JSON"));
}

TEST(TemplateTest, FindsTheMessagesOfTheLineThoughTheyAreNoColumn) {
  Row row = RowWith({});
  row.json = R"({"messages": [{"role": "user", "content": "2 + 3?"}]})";
  const auto text = Template::Parse("{{item.messages[0].content}}")
                        ->Render(GradeInput{row, "", {}, FinishReason::kStop});
  EXPECT_EQ(text.value(), "2 + 3?");
}

}  // namespace
}  // namespace rft
