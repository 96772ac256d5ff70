#include <gmock/gmock.h>

#include <atomic>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "graders/async_grader.h"
#include "graders/text_generators.h"
#include "rft/api/engine_text_generator.h"
#include "rft/io/json.h"
#include "tests/graders/grader_testing.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/http_test_server.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::HttpTestServer;
using testing::TestReply;
using testing::TestRequest;

// Answers what the test says, and remembers what it was asked.
class ScriptedGenerator : public TextGenerator {
 public:
  using Script = std::function<absl::StatusOr<std::string>(const TextRequest&)>;
  explicit ScriptedGenerator(Script script) : script_(std::move(script)) {}
  absl::StatusOr<GeneratedText> Generate(const TextRequest& request) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++calls;
    absl::StatusOr<std::string> text = script_(request);
    if (!text.ok()) return text.status();
    return GeneratedText{*std::move(text)};
  }
  std::atomic<int> calls{0};

 private:
  std::mutex mutex_;
  Script script_;
};

class JudgeGraderTest : public ::testing::Test {
 protected:
  void SetUp() override { Answer([](const TextRequest&) { return R"({"reasoning": "fine", "result": 0.75})"; }); }
  void TearDown() override { SetTextGenerator("judge", nullptr); }

  void Answer(ScriptedGenerator::Script script) {
    generator_ = std::make_shared<ScriptedGenerator>(std::move(script));
    SetTextGenerator("judge", generator_);
  }

  std::unique_ptr<Grader> Make(const std::string& type, Params params, double deadline_s = 10) {
    if (params.count("base_url") == 0) params.try_emplace("generator", "judge");
    GraderSpec spec = Spec(type, std::move(params));
    spec.deadline_s = deadline_s;
    auto grader = CreateGrader(spec);
    EXPECT_TRUE(grader.ok()) << grader.status();
    return grader.ok() ? *std::move(grader) : nullptr;
  }

  static Grade Run(const Grader& grader, const std::string& completion) {
    Row row = RowWith({{"answer", "42"}});
    row.messages = {{"user", "What is it?"}};
    row.json = R"({"answer": "42"})";
    return grader.Run(GradeInput{row, completion, {}, FinishReason::kStop});
  }

  const std::string kInput = R"([{"role": "user", "content": "Is {{sample.output_text}} {{item.answer}}?"}])";
  std::shared_ptr<ScriptedGenerator> generator_;
};

TEST_F(JudgeGraderTest, ScoresByTheModelsNumber) {
  std::string asked, schema;
  Answer([&](const TextRequest& request) {
    asked = request.messages.back().content;
    schema = request.json_schema;
    return R"({"reasoning": "good", "result": 6.5})";
  });
  const auto grader = Make("score_model", {{"input", kInput}, {"range", "[0, 7]"}, {"pass_threshold", "5"}});
  const Grade grade = Run(*grader, "forty-two");
  EXPECT_EQ(ScoreOf(grade), 6.5);
  EXPECT_EQ(GradeReason(grade), "good");
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("passed"), 1.0);
  EXPECT_THAT(asked, HasSubstr("Is forty-two 42?"));
  EXPECT_THAT(asked, HasSubstr("from 0.0 to 7.0"));
  EXPECT_TRUE(ParseJson(schema).ok()) << schema;
}

TEST_F(JudgeGraderTest, ReadsAnswersStrictlyAndAsksAgain) {
  const char* const bad[] = {"I give it 1", "1", R"({"result": "1"})", R"({"result": 2})", R"({"result": 1} and more)",
                             R"([{"result": 1}])", R"({"score": 1})", ""};
  for (const char* text : bad) {
    Answer([text](const TextRequest&) { return text; });
    const Grade grade = Run(*Make("score_model", {{"input", kInput}, {"attempts", "2"}}), "x");
    EXPECT_STREQ(GradeKind(grade), "error") << text;
    EXPECT_EQ(generator_->calls, 2) << text;
  }
  int call = 0;
  Answer([&](const TextRequest&) { return ++call < 3 ? "hm" : "```json\n{\"reasoning\": \"\", \"result\": 1}\n```"; });
  EXPECT_EQ(ScoreOf(Run(*Make("score_model", {{"input", kInput}}), "x")), 1.0);
  EXPECT_EQ(call, 3);
}

TEST_F(JudgeGraderTest, RemembersAnswersAtTemperatureZero) {
  const auto grader = Make("score_model", {{"input", kInput}, {"cache_size", "2"}});
  for (const char* completion : {"a", "a", "b", "a", "c", "a", "b"}) EXPECT_EQ(ScoreOf(Run(*grader, completion)), 0.75);
  EXPECT_EQ(generator_->calls, 4);  // a, b, c, and b again: it was the one used longest ago
  const auto warm = Make("score_model", {{"input", kInput}, {"sampling_params", R"({"temperature": 1})"}});
  Run(*warm, "a");
  Run(*warm, "a");
  EXPECT_EQ(generator_->calls, 6);
}

TEST_F(JudgeGraderTest, LabelsPassOrFail) {
  const Params params = {{"input", kInput}, {"labels", R"(["good", "bad \"so\""])"}, {"passing_labels", R"(["good"])"}};
  Answer([](const TextRequest& request) {
    EXPECT_TRUE(ParseJson(request.json_schema).ok()) << request.json_schema;
    return R"({"reasoning": "r", "result": "good"})";
  });
  EXPECT_EQ(ScoreOf(Run(*Make("label_model", params), "x")), 1.0);
  Answer([](const TextRequest&) { return R"({"reasoning": "r", "result": "bad \"so\""})"; });
  EXPECT_EQ(ScoreOf(Run(*Make("label_model", params), "x")), 0.0);
  Answer([](const TextRequest&) { return R"({"reasoning": "r", "result": "Good"})"; });
  EXPECT_STREQ(GradeKind(Run(*Make("label_model", params), "x")), "error");
  Params unknown = params;
  unknown["passing_labels"] = R"(["great"])";
  unknown["generator"] = "judge";
  EXPECT_THAT(CreationError(Spec("label_model", unknown)), HasSubstr("\"great\" is not one of the labels"));
}

TEST_F(JudgeGraderTest, APairIsComparedBothWaysRound) {
  const auto score_of = [&](const ScriptedGenerator::Script& script) {
    Answer(script);
    return ScoreOf(Run(*Make("pairwise_model", {{"reference", "theirs"}}), "ours"));
  };
  const auto prefers = [](const std::string& text) {
    return [text](const TextRequest& request) -> std::string {
      const std::string& asked = request.messages[0].content;
      EXPECT_THAT(asked, HasSubstr("user: What is it?"));
      const bool first = asked.find(text) < asked.find("</answer_A>");
      return absl::StrCat(R"({"reasoning": "", "result": ")", first ? "A" : "B", "\"}");
    };
  };
  EXPECT_EQ(score_of(prefers("\nours\n")), 1.0);
  EXPECT_EQ(score_of(prefers("\ntheirs\n")), 0.0);
  EXPECT_EQ(score_of([](const TextRequest&) { return R"({"result": "A"})"; }), 0.5);  // prefers the first place
  EXPECT_EQ(score_of([](const TextRequest&) { return R"({"result": "tie"})"; }), 0.5);
}

TEST_F(JudgeGraderTest, AFailureOfTheJudgeIsNeverAScore) {
  Answer([](const TextRequest&) { return absl::UnavailableError("gone"); });
  EXPECT_STREQ(GradeKind(Run(*Make("score_model", {{"input", kInput}}), "x")), "error");
  Answer([](const TextRequest& request) {
    EXPECT_LE(request.deadline_s, 0.5);
    return absl::DeadlineExceededError("slow");
  });
  EXPECT_STREQ(GradeKind(Run(*Make("score_model", {{"input", kInput}}, 0.5), "x")), "timeout");
  const auto nobody = Make("score_model", {{"input", kInput}, {"generator", "nobody"}});
  EXPECT_EQ(dynamic_cast<AsyncGrader&>(*nobody).Prepare().code(), absl::StatusCode::kFailedPrecondition);
  const auto grader = Make("score_model", {{"input", kInput}});
  dynamic_cast<AsyncGrader&>(*grader).Shutdown();
  EXPECT_EQ(GradeReason(Run(*grader, "x")), "shut down");
}

TEST_F(JudgeGraderTest, AsksAnOpenAiCompatibleServerAndTriesAgain) {
  std::vector<TestRequest> requests;
  HttpTestServer server([&](const TestRequest& request) {
    requests.push_back(request);
    if (requests.size() == 1) return TestReply{.status = 503, .body = "busy"};
    return TestReply{.body = R"({"choices": [{"message": {"role": "assistant", "content": "{\"reasoning\": \"r\", \"result\": 0.5}"},
                                 "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})"};
  });
  setenv("RFT_TEST_JUDGE_KEY", "sk-secret", 1);
  const auto grader = Make("score_model", {{"input", kInput},
                                           {"base_url", server.Url("/v1")},
                                           {"model", "m"},
                                           {"api_key_env", "RFT_TEST_JUDGE_KEY"}});
  EXPECT_EQ(ScoreOf(Run(*grader, "x")), 0.5);
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].target, "/v1/chat/completions");
  EXPECT_EQ(requests[1].headers.at("authorization"), "Bearer sk-secret");
  EXPECT_EQ(requests[0].headers.at("idempotency-key"), requests[1].headers.at("idempotency-key"));
  const absl::StatusOr<json::value> body = ParseJson(requests[1].body);
  ASSERT_TRUE(body.ok());
  EXPECT_EQ(body->at("model"), "m");
  EXPECT_EQ(body->at("response_format").at("type"), "json_schema");
  EXPECT_EQ(body->at("response_format").at("json_schema").at("schema").at("type"), "object");
  unsetenv("RFT_TEST_JUDGE_KEY");
}

TEST_F(JudgeGraderTest, AServerThatRefusesOrHangsIsAnErrorWithoutTheKey) {
  HttpTestServer server([](const TestRequest& request) {
    return request.target.starts_with("/hang") ? TestReply{.delay_s = 9} : TestReply{.status = 401, .body = "bad key"};
  });
  setenv("RFT_TEST_JUDGE_KEY", "sk-secret", 1);
  const Params params = {{"input", kInput}, {"model", "m"}, {"api_key_env", "RFT_TEST_JUDGE_KEY"}};
  Params refuse = params, hang = params;
  refuse["base_url"] = server.Url("/v1");
  hang["base_url"] = server.Url("/hang");
  const Grade refused = Run(*Make("score_model", refuse), "x");
  EXPECT_STREQ(GradeKind(refused), "error");
  EXPECT_THAT(GradeReason(refused), HasSubstr("HTTP 401"));
  EXPECT_EQ(GradeReason(refused).find("sk-secret"), std::string::npos);
  EXPECT_STREQ(GradeKind(Run(*Make("score_model", hang, 0.3), "x")), "timeout");
  unsetenv("RFT_TEST_JUDGE_KEY");
}

}  // namespace
}  // namespace rft
