#include "rft/io/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr char kGood[] =
    R"({"messages": [{"role": "user", "content": "2 + 3?"}], "answer": "5", "n": 1.50, "tags": ["a"]})";

class DatasetTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const Row>>> Read(const std::string& text) {
    RFT_CHECK(WriteFile(FileSystem::Default(), path_, text).ok());
    return ReadDataset(path_);
  }
  std::string ErrorOf(const std::string& text) {
    return std::string(Read(text).status().message());
  }

  rft::testing::TempDir dir_;
  const std::string path_ = dir_ / "train.jsonl";
};

TEST_F(DatasetTest, ReadsMessagesColumnsAndTheWholeLine) {
  const auto rows = Read(std::string(kGood) + "\n");
  ASSERT_TRUE(rows.ok()) << rows.status();
  const Row& row = *rows->at(0);
  EXPECT_EQ(row.messages.at(0).role, "user");
  EXPECT_EQ(row.messages.at(0).content, "2 + 3?");
  EXPECT_EQ(row.columns, (std::map<std::string, std::string>{
                             {"answer", "5"}, {"n", "1.5"}, {"tags", R"(["a"])"}}));
  EXPECT_EQ(row.json, kGood);
}

// Expected: json.dumps(json.loads(...)) of Python 3.11.
TEST_F(DatasetTest, ReadsNumbersBeyondADoubleAsPythonDoes) {
  const auto rows = Read(
      R"({"messages": [{"role": "user", "content": "x"}], "a": 9E72036854775808, "b": -1e400, "c": 1e-99999999999})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->at(0)->columns, (std::map<std::string, std::string>{
                                      {"a", "Infinity"}, {"b", "-Infinity"}, {"c", "0.0"}}));
}

TEST_F(DatasetTest, AllowsByteOrderMarkBlankLinesCarriageReturnsAndNoLastLineBreak) {
  const auto rows = Read(std::string("\xEF\xBB\xBF") + kGood + "\r\n\r\n  \n" + kGood);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ(rows->at(1)->index, 1);
  EXPECT_EQ(rows->at(0)->json, kGood);
}

struct BadLine {
  std::string line;
  std::string message;
};

class BadLineTest : public DatasetTest, public ::testing::WithParamInterface<BadLine> {};

TEST_P(BadLineTest, IsReportedWithFileAndLine) {
  const std::string error = ErrorOf(std::string(kGood) + "\n" + GetParam().line + "\n");
  EXPECT_EQ(error, path_ + ":2: " + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadLineTest,
    ::testing::Values(
        BadLine{"{\"messages\": [}", "column 15: not valid JSON: syntax error"},
        BadLine{"{\"messages\": [", "column 15: the text ends before the JSON value does"},
        BadLine{"[1]", "must be a JSON object with a key 'messages'"},
        BadLine{"{} x", "column 4: text after the end of the JSON value"},
        BadLine{R"({"prompt": "x"})", "'messages' is missing"},
        BadLine{R"({"messages": "x"})", "'messages' must be a list"},
        BadLine{R"({"messages": []})", "'messages' is empty"},
        BadLine{R"({"messages": ["x"]})", "messages[0]: must be an object with role and content"},
        BadLine{R"({"messages": [{"content": "x"}]})", "messages[0]: 'role' is missing"},
        BadLine{R"({"messages": [{"role": "bot", "content": "x"}]})",
                "messages[0].role: \"bot\" is not one of system, developer, user, assistant, tool"},
        BadLine{R"({"messages": [{"role": "user"}]})", "messages[0]: 'content' is missing"},
        BadLine{R"({"messages": [{"role": "user", "content": 5}]})",
                "messages[0].content: must be text"},
        BadLine{R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})",
                "messages[0].content: must be text (lists of parts are not supported)"},
        BadLine{
            R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})",
            "the last message is the assistant's; leave it out (put the expected answer into a key "
            "of its own)"},
        BadLine{R"({"messages": [], "messages": []})", "the key \"messages\" is given twice"},
        BadLine{"{\"messages\": \"\xFF\"}", "column 15: not UTF-8 text (byte 14)"}));

TEST_F(DatasetTest, ReportsAllBadLinesTogether) {
  EXPECT_EQ(ErrorOf(std::string("[1]\n") + kGood + "\n\n{}\n"),
            path_ + ":1: must be a JSON object with a key 'messages'\n" + path_ +
                ":4: 'messages' is missing");
}

TEST_F(DatasetTest, ShowsTwentyBadLinesAndCountsTheRest) {
  std::string text;
  for (int i = 0; i < 25; ++i) text += "{}\n";
  const std::string error = ErrorOf(text);
  EXPECT_THAT(error, HasSubstr(path_ + ":20: "));
  EXPECT_THAT(error, Not(HasSubstr(path_ + ":21: ")));
  EXPECT_THAT(error, EndsWith("\n... and 5 more bad lines"));
}

TEST_F(DatasetTest, RefusesAnEmptyDataset) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("train.jsonl: the dataset has no rows"));
  EXPECT_THAT(ErrorOf("\n \n"), HasSubstr("train.jsonl: the dataset has no rows"));
}

TEST_F(DatasetTest, NamesAFileThatIsNotThere) {
  EXPECT_EQ(ReadDataset(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace rft
