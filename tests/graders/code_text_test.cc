#include "graders/sandbox/code_text.h"

#include <gtest/gtest.h>

namespace rft {
namespace {

TEST(ExtractCodeTest, FindsTheLastBlockOfTheLanguage) {
  struct Case {
    const char* text;
    const char* code;
  };
  const Case cases[] = {
      {"no fence", "no fence"},
      {"```python\na\n```", "a\n"},
      {"```Python\na\n```\n```py\nb\n```\n", "b\n"},
      {"```\na\n```", "a\n"},
      {"```python\na\n```\n```text\noutput\n```", "a\n"},
      {"```text\nonly\n```", ""},
      {"```python\nunclosed\n", "unclosed\n"},
      {"~~~python\na\n```\nb\n~~~", "a\n```\nb\n"},
      {"````python\n```\n````", "```\n"},
      {"```python title=x\na\n```", "a\n"},
      {"", ""},
  };
  for (const Case& c : cases) {
    std::string code = ExtractCode(c.text, {"python", "py"});
    if (!code.empty() && code.back() == '\n' && std::string(c.code).back() != '\n') code.pop_back();
    // An unclosed block's last line is kept whole.
    EXPECT_EQ(code.substr(0, std::string(c.code).size()), c.code) << c.text;
  }
}

TEST(ParseTestsTest, TellsTheFormsApart) {
  EXPECT_EQ(ParseTests(R"([{"input": "1", "output": "2"}])", "")->stdio.size(), 1u);
  EXPECT_EQ(ParseTests(R"([{"input": "1", "output": "2"}])", "f")->kind, "cases");
  EXPECT_EQ(ParseTests(R"({"inputs": ["1", "2"], "outputs": ["a", "b"]})", "")->stdio[1].output,
            "b");
  EXPECT_EQ(ParseTests(R"(["assert x"])", "")->kind, "statements");
  EXPECT_EQ(ParseTests("assert x", "")->kind, "module");
  EXPECT_EQ(ParseTests("[f(x) for x in (1, 2)]", "")->kind, "module");
  for (const char* bad :
       {"", " ", "[]", "{}", R"([{"input": 1}])", R"({"inputs": [1], "outputs": []})", "[1, 2]"}) {
    EXPECT_EQ(ParseTests(bad, "f").status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(SameOutputTest, IgnoresBlanksAtLineEndsAndEmptyLinesAtTheEnd) {
  EXPECT_TRUE(SameOutput("1 \n2\r\n\n", "1\n2"));
  EXPECT_TRUE(SameOutput("", "\n"));
  EXPECT_FALSE(SameOutput("1\n\n2", "1\n2"));
  EXPECT_FALSE(SameOutput(" 1", "1"));
  EXPECT_FALSE(SameOutput("", "1"));
}

}  // namespace
}  // namespace rft
