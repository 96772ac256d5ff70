#include <gmock/gmock.h>

#include <atomic>
#include <future>
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
  void SetUp() override {
    Answer([](const TextRequest&) { return R"({"reasoning": "fine", "result": 0.75})"; });
  }
  void TearDown() override { SetTextGenerator("judge", nullptr); }

  void Answer(ScriptedGenerator::Script script) {
    generator_ = std::make_shared<ScriptedGenerator>(std::move(script));
    SetTextGenerator("judge", generator_);
  }

  std::unique_ptr<Grader> Make(Params params, double deadline_s = 10) {
    if (params.count("base_url") == 0) params.try_emplace("generator", "judge");
    GraderSpec spec = Spec("llm_judge", std::move(params));
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

  std::shared_ptr<ScriptedGenerator> generator_;
};

TEST_F(JudgeGraderTest, ScoresByARubric) {
  std::string asked, schema;
  Answer([&](const TextRequest& request) {
    asked = request.messages.back().content;
    schema = request.json_schema;
    return R"({"reasoning": "good", "result": 6.5})";
  });
  const auto grader = Make({{"rubric", "it says {{item.answer}}"},
                            {"range", "[0, 7]"},
                            {"reference", "R{{item.answer}}"}});
  const Grade grade = Run(*grader, "forty-two");
  EXPECT_EQ(ScoreOf(grade), 6.5);
  EXPECT_EQ(GradeReason(grade), "good");
  for (const char* part :
       {"it says 42", "user: What is it?", "R42", "forty-two", "from 0.0 to 7.0"}) {
    EXPECT_THAT(asked, HasSubstr(part));
  }
  EXPECT_TRUE(ParseJson(schema).ok()) << schema;
}

TEST_F(JudgeGraderTest, ReadsAnswersStrictlyAndAsksAgain) {
  const char* const bad[] = {"I give it 1",
                             "1",
                             R"({"result": "1"})",
                             R"({"result": 2})",
                             R"({"result": 1} and more)",
                             R"([{"result": 1}])",
                             R"({"score": 1})",
                             ""};
  for (const char* text : bad) {
    Answer([text](const TextRequest&) { return text; });
    const Grade grade = Run(*Make({{"reasks", "1"}}), "x");
    EXPECT_STREQ(GradeKind(grade), "error") << text;
    EXPECT_EQ(generator_->calls, 2) << text;
  }
  int call = 0;
  Answer([&](const TextRequest&) {
    return ++call < 3 ? "hm" : "```json\n{\"reasoning\": \"\", \"result\": 1}\n```";
  });
  EXPECT_EQ(ScoreOf(Run(*Make({}), "x")), 1.0);
  EXPECT_EQ(call, 3);
}

TEST_F(JudgeGraderTest, RemembersAnswersAtTemperatureZero) {
  const auto grader = Make({{"cache_size", "2"}});
  for (const char* completion : {"a", "a", "b", "a", "c", "a", "b"})
    EXPECT_EQ(ScoreOf(Run(*grader, completion)), 0.75);
  EXPECT_EQ(generator_->calls, 4);  // a, b, c, and b again: it was the one used longest ago
  const auto warm = Make({{"temperature", "1"}});
  Run(*warm, "a");
  Run(*warm, "a");
  EXPECT_EQ(generator_->calls, 6);
}

TEST_F(JudgeGraderTest, AGroupIsRankedAtOnce) {
  Answer([](const TextRequest& request) {
    EXPECT_THAT(
        request.messages[0].content,
        HasSubstr(
            "<answer_1>\nbad\n</answer_1>\n<answer_2>\nbest\n</answer_2>\n<answer_3>\nmiddling"));
    return R"({"reasoning": "clear", "result": [2, 3, 1]})";
  });
  const auto grader = Make({{"method", "rank"}, {"group_size", "3"}, {"max_wait_s", "0.2"}});
  const auto grade_all = [&](const std::vector<std::string>& completions) {
    std::vector<std::future<Grade>> answers;
    const auto row = std::make_shared<Row>(RowWith({}));
    for (const std::string& completion : completions) {
      auto job = std::make_shared<GradeJob>();
      job->row = row;
      job->completion = completion;
      auto answer = std::make_shared<std::promise<Grade>>();
      answers.push_back(answer->get_future());
      dynamic_cast<AsyncGrader&>(*grader).Start(
          job, [answer](Grade grade) { answer->set_value(std::move(grade)); });
    }
    std::vector<Grade> grades;
    for (std::future<Grade>& answer : answers) grades.push_back(answer.get());
    return grades;
  };
  const std::vector<Grade> grades = grade_all({"middling", "best", "bad"});
  EXPECT_EQ(ScoreOf(grades[0]), 0.5);
  EXPECT_EQ(ScoreOf(grades[1]), 1.0);
  EXPECT_EQ(ScoreOf(grades[2]), 0.0);
  EXPECT_EQ(generator_->calls, 1);
  EXPECT_STREQ(GradeKind(grade_all({"alone"})[0]), "abstain");
  for (const char* wrong :
       {"[1, 1, 2]", "[1, 2]", "[1, 2, 4]", "[0, 1, 2]", "\"1, 2, 3\"", "[1, 2, 3, 1]"}) {
    const auto strict =
        Make({{"method", "rank"}, {"group_size", "3"}, {"reasks", "0"}, {"generator", "wrong"}});
    SetTextGenerator("wrong", std::make_shared<ScriptedGenerator>([wrong](const TextRequest&) {
                       return absl::StrCat(R"({"reasoning": "", "result": )", wrong, "}");
                     }));
    std::promise<Grade> grade;
    for (int i = 0; i < 3; ++i) {
      auto job = std::make_shared<GradeJob>();
      job->row = std::make_shared<Row>(RowWith({}));
      job->completion = std::to_string(i);
      dynamic_cast<AsyncGrader&>(*strict).Start(job, [&grade, i](Grade g) {
        if (i == 2) grade.set_value(std::move(g));
      });
    }
    EXPECT_STREQ(GradeKind(grade.get_future().get()), "error") << wrong;
  }
  SetTextGenerator("wrong", nullptr);
}

TEST_F(JudgeGraderTest, APairIsComparedBothWaysRound) {
  const auto score_of = [&](const ScriptedGenerator::Script& script) {
    Answer(script);
    return ScoreOf(Run(*Make({{"method", "pairwise"}, {"reference", "theirs"}}), "ours"));
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
  EXPECT_EQ(score_of([](const TextRequest&) { return R"({"result": "A"})"; }),
            0.5);  // prefers the first place
  EXPECT_EQ(score_of([](const TextRequest&) { return R"({"result": "tie"})"; }), 0.5);
}

TEST_F(JudgeGraderTest, AModelOfOurOwnCanJudge) {
  testing::FakeCodec codec;
  testing::FakeEngine engine([](const GenerateRequest& request, int32_t) {
    EXPECT_EQ(request.sampling.temperature, 0.0);
    EXPECT_EQ(request.rng.run_seed, 7u);
    return testing::FakeAnswer{.text = R"({"reasoning": "ours", "result": 0.25})"};
  });
  SetTextGenerator("judge", std::make_shared<EngineTextGenerator>(engine, codec));
  const auto grader = Make({{"seed", "7"}});
  const Grade grade = Run(*grader, "x");
  EXPECT_EQ(ScoreOf(grade), 0.25) << GradeReason(grade);
  const std::vector<GenerateRequest> asked = engine.requests();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_THAT(DecodeTokens(codec, asked[0].prompt), HasSubstr("\nx\n"));
}

TEST_F(JudgeGraderTest, AFailureOfTheJudgeIsNeverAScore) {
  Answer([](const TextRequest&) { return absl::UnavailableError("gone"); });
  EXPECT_STREQ(GradeKind(Run(*Make({}), "x")), "error");
  Answer([](const TextRequest& request) {
    EXPECT_LE(request.deadline_s, 0.5);
    return absl::DeadlineExceededError("slow");
  });
  EXPECT_STREQ(GradeKind(Run(*Make({}, 0.5), "x")), "timeout");
  const auto nobody = Make({{"generator", "nobody"}});
  EXPECT_EQ(dynamic_cast<AsyncGrader&>(*nobody).Prepare().code(),
            absl::StatusCode::kFailedPrecondition);
  const auto grader = Make({});
  dynamic_cast<AsyncGrader&>(*grader).Shutdown();
  EXPECT_EQ(GradeReason(Run(*grader, "x")), "shut down");
}

TEST_F(JudgeGraderTest, AsksAnOpenAiCompatibleServerAndTriesAgain) {
  std::vector<TestRequest> requests;
  HttpTestServer server([&](const TestRequest& request) {
    requests.push_back(request);
    if (requests.size() == 1) return TestReply{.status = 503, .body = "busy"};
    return TestReply{
        .body =
            R"({"choices": [{"message": {"role": "assistant", "content": "{\"reasoning\": \"r\", \"result\": 0.5}"},
                                 "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})"};
  });
  setenv("RFT_TEST_JUDGE_KEY", "sk-secret", 1);
  const auto grader = Make(
      {{"base_url", server.Url("/v1")}, {"model", "m"}, {"api_key_env", "RFT_TEST_JUDGE_KEY"}});
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
    return request.target.starts_with("/hang") ? TestReply{.delay_s = 9}
                                               : TestReply{.status = 401, .body = "bad key"};
  });
  setenv("RFT_TEST_JUDGE_KEY", "sk-secret", 1);
  const Params params = {{"model", "m"}, {"api_key_env", "RFT_TEST_JUDGE_KEY"}};
  Params refuse = params, hang = params;
  refuse["base_url"] = server.Url("/v1");
  hang["base_url"] = server.Url("/hang");
  const Grade refused = Run(*Make(refuse), "x");
  EXPECT_STREQ(GradeKind(refused), "error");
  EXPECT_THAT(GradeReason(refused), HasSubstr("HTTP 401"));
  EXPECT_EQ(GradeReason(refused).find("sk-secret"), std::string::npos);
  EXPECT_STREQ(GradeKind(Run(*Make(hang, 0.3), "x")), "timeout");
  unsetenv("RFT_TEST_JUDGE_KEY");
}

}  // namespace
}  // namespace rft
