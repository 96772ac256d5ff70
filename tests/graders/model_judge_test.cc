#include "gmock/gmock.h"
#include "rft/core/text.h"
#include "rft/io/json.h"
#include "tests/graders/grader_testing.h"
#include "tests/testing/http_test_server.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::HttpTestServer;
using testing::TestReply;
using testing::TestRequest;

TestReply Chat(const std::string& content) {
  return TestReply{
      .body =
          "{\"id\": \"c\", \"choices\": [{\"index\": 0, \"finish_reason\": \"stop\", \"message\": "
          "{\"role\": \"assistant\", \"content\": " +
          JsonQuote(content) + "}}]}"};
}

Grade Judge(const HttpTestServer& server, const std::string& grader,
            const std::string& completion = "5",
            std::map<std::string, std::string> columns = {{"answer", "5"}}) {
  return GradeText(Spec("openai", {{"grader", grader}, {"base_url", server.Url("/v1/")}}),
                   completion, std::move(columns));
}

constexpr char kScore[] =
    R"({"type": "score_model", "name": "s", "model": "judge-1", "range": [0, 10],
  "pass_threshold": 5, "sampling_params": {"temperature": 0, "max_completions_tokens": 100, "seed": null},
  "input": [{"role": "system", "content": "Rate."},
            {"role": "user", "content": {"type": "input_text", "text": "{{item.answer}} or {{sample.output_text}}"}}]})";
constexpr char kLabel[] = R"({"type": "label_model", "name": "l", "model": "judge-1",
  "input": [{"role": "user", "content": "{{sample.output_text}}"}],
  "labels": ["good", "fair", "bad"], "passing_labels": ["good", "fair"]})";

TEST(ModelJudgeTest, AsksTheChatApiForAStructuredJudgement) {
  const HttpTestServer server([](const TestRequest& request) {
    EXPECT_EQ(request.target, "/v1/chat/completions");
    const json::value body = ParseJson(request.body).value();
    EXPECT_EQ(body.at("model").as_string(), "judge-1");
    EXPECT_EQ(
        ToJson(body.at("messages")),
        R"([{"role": "system", "content": "Rate."}, {"role": "user", "content": "5 or five"}])");
    EXPECT_EQ(body.at("max_completion_tokens").as_int64(), 100);
    EXPECT_FALSE(body.as_object().contains("seed"));
    EXPECT_EQ(body.at("response_format")
                  .at("json_schema")
                  .at("schema")
                  .at("properties")
                  .at("result")
                  .at("type")
                  .as_string(),
              "number");
    return Chat(R"({"steps": [{"description": "d", "conclusion": "same"}], "result": 7.5})");
  });
  const Grade grade = Judge(server, kScore, "five");
  EXPECT_EQ(ScoreOf(grade), 7.5);
  EXPECT_EQ(GradeReason(grade), "same");
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("passed"), 1.0);
}

TEST(ModelJudgeTest, CutsTheScoreOffAtItsRangeAndUnderstandsABareNumber) {
  for (const auto& [text, score] :
       std::vector<std::pair<std::string, double>>{{R"({"steps": [], "result": 99})", 10.0},
                                                   {R"({"result": -1})", 0.0},
                                                   {" 3\n", 3.0},
                                                   {R"({"result": "4"})", 4.0}}) {
    const HttpTestServer server([&](const TestRequest&) { return Chat(text); });
    EXPECT_EQ(ScoreOf(Judge(server, kScore)), score) << text;
  }
}

TEST(ModelJudgeTest, GivesNoScoreWhereTheJudgeDoesNotJudge) {
  const std::pair<TestReply, const char*> cases[] = {
      {Chat("I like it"), "the judge's result is not a number: \"I like it\""},
      {Chat("{\"steps\": []}"), "is not a number: null"},
      {TestReply{.body = R"({"choices": [{"message": {"content": null, "refusal": "no"}}]})"},
       "the judge refused: no"},
      {TestReply{.body = "{}"}, "no choices[0].message"},
      {TestReply{.status = 401, .body = R"({"error": {"message": "bad key"}})"}, "bad key"},
  };
  for (const auto& [reply, why] : cases) {
    const HttpTestServer server([&reply = reply](const TestRequest&) { return reply; });
    const Grade grade = Judge(server, kScore);
    EXPECT_EQ(GradeKind(grade), std::string("error"));
    EXPECT_THAT(GradeReason(grade), HasSubstr(why));
  }
}

TEST(ModelJudgeTest, ScoresPassingLabels) {
  for (const auto& [label, score] :
       std::vector<std::pair<std::string, double>>{{"good", 1.0}, {"fair", 1.0}, {"bad", 0.0}}) {
    const HttpTestServer server([&](const TestRequest& request) {
      const json::value body = ParseJson(request.body).value();
      EXPECT_EQ(ToJson(body.at("response_format")
                           .at("json_schema")
                           .at("schema")
                           .at("properties")
                           .at("result")
                           .at("enum")),
                R"(["good", "fair", "bad"])");
      return Chat("{\"steps\": [{\"description\": \"\", \"conclusion\": \"ok\"}], \"result\": \"" +
                  label + "\"}");
    });
    const Grade grade = Judge(server, kLabel);
    EXPECT_EQ(ScoreOf(grade), score);
    EXPECT_EQ(GradeReason(grade), label + ": ok");
  }
  const HttpTestServer server([](const TestRequest&) { return Chat("excellent"); });
  EXPECT_THAT(GradeReason(Judge(server, kLabel)), HasSubstr("is not one of the labels"));
}

TEST(ModelJudgeTest, TellsTheRowsMistakeFromTheModels) {
  const HttpTestServer server([](const TestRequest&) { return Chat("1"); });
  EXPECT_EQ(GradeKind(Judge(server, kScore, "5", {})), std::string("error"));
  constexpr char kJson[] = R"({"type": "score_model", "model": "m", "range": [-1, 1],
                               "input": [{"role": "user", "content": "{{sample.output_json.a}}"}]})";
  EXPECT_EQ(ScoreOf(Judge(server, kJson, "no json")), -1.0);
  EXPECT_EQ(server.num_requests(), 0);
}

TEST(ModelJudgeTest, WorksWithinAMultiGrader) {
  const HttpTestServer server([](const TestRequest&) { return Chat("0.5"); });
  const Grade grade = Judge(
      server, R"({"type": "multi", "calculate_output": "0.5 * exact + 0.5 * judge", "graders": {
      "exact": {"type": "string_check", "operation": "eq", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"},
      "judge": {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "?"}]}}})");
  EXPECT_EQ(ScoreOf(grade), 0.75);
}

}  // namespace
}  // namespace rft
