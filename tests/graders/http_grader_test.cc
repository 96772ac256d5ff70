#include <atomic>
#include <mutex>
#include <set>

#include "gmock/gmock.h"
#include "graders/grader_pool.h"
#include "rft/io/json.h"
#include "tests/graders/grader_testing.h"
#include "tests/testing/http_test_server.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::HttpTestServer;
using testing::TestReply;
using testing::TestRequest;

// Grades of `completions`, all given to the pool at once.
std::vector<Grade> GradeAll(const GraderSpec& spec, const std::vector<std::string>& completions) {
  auto pool = GraderPool::Create({spec});
  EXPECT_TRUE(pool.ok()) << pool.status();
  std::vector<Grade> grades(completions.size());
  std::atomic<size_t> left{completions.size()};
  auto row = std::make_shared<Row>();
  row->json = R"({"answer": "5"})";
  for (size_t i = 0; i < completions.size(); ++i) {
    auto rollout = std::make_shared<Rollout>();
    rollout->completion_text = completions[i];
    (*pool)->GradeAsync(row, rollout, [&, i](std::vector<NamedGrade> given) {
      grades[i] = given.front().grade;
      --left;
    });
  }
  while (left > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return grades;
}

// Scores each item with the length of its completion; refuses a batch with a "bad" one.
TestReply GradeByLength(const TestRequest& request) {
  const json::value body = ParseJson(request.body).value();
  std::string grades;
  for (const json::value& item : body.at("items").as_array()) {
    const std::string text(item.at("completion").as_string());
    EXPECT_EQ(item.at("row").at("answer").as_string(), "5");
    if (text == "bad") return TestReply{.status = 422, .body = "bad item"};
    grades += (grades.empty() ? "" : ",") + (text == "none" ? "null" : std::to_string(text.size()));
  }
  return TestReply{.body = "{\"grades\": [" + grades + "]}"};
}

TEST(HttpGraderTest, SendsWhatWaitsInBatchesAndKeepsTheOrder) {
  const HttpTestServer server(GradeByLength);
  std::vector<std::string> completions;
  for (size_t i = 0; i < 40; ++i) completions.push_back(std::string(i, 'x'));
  const auto grades = GradeAll(
      Spec("http", {{"url", server.Url("/grade")}, {"batch_size", "8"}, {"max_concurrent", "2"}}),
      completions);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(ScoreOf(grades[i]), static_cast<double>(i));
  EXPECT_LT(server.num_requests(), 20);
}

TEST(HttpGraderTest, AsksForNoMoreAtOnceThanItMay) {
  std::atomic<int> num_running{0}, most{0};
  const HttpTestServer server([&](const TestRequest& request) {
    const int running = ++num_running;
    for (int seen = most; seen < running && !most.compare_exchange_weak(seen, running);) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    --num_running;
    return GradeByLength(request);
  });
  const auto grades = GradeAll(
      Spec("http", {{"url", server.Url("/")}, {"batch_size", "1"}, {"max_concurrent", "3"}}),
      std::vector<std::string>(12, "abc"));
  for (const Grade& grade : grades) EXPECT_EQ(ScoreOf(grade), 3.0);
  EXPECT_EQ(server.num_requests(), 12);
  EXPECT_EQ(most, 3);
}

TEST(HttpGraderTest, TakesARefusedBatchApart) {
  const HttpTestServer server(GradeByLength);
  const auto grades = GradeAll(Spec("http", {{"url", server.Url("/")}, {"max_concurrent", "1"}}),
                               {"aa", "b", "bad", "none", "cccc"});
  EXPECT_EQ(ScoreOf(grades[0]), 2.0);
  EXPECT_EQ(ScoreOf(grades[1]), 1.0);
  EXPECT_THAT(GradeReason(grades[2]), HasSubstr("422"));
  EXPECT_EQ(GradeKind(grades[3]), std::string("abstain"));
  EXPECT_EQ(ScoreOf(grades[4]), 4.0);
}

TEST(HttpGraderTest, TriesAgainWithTheSameIdempotencyKey) {
  std::mutex mutex;
  std::multiset<std::string> keys;
  const HttpTestServer server([&](const TestRequest& request) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      keys.insert(request.headers.at("idempotency-key"));
    }
    if (request.index == 0) return TestReply{.drop = true};
    if (request.index == 1) return TestReply{.status = 503};
    return GradeByLength(request);
  });
  const auto grades = GradeAll(Spec("http", {{"url", server.Url("/")}}), {"abc"});
  EXPECT_EQ(ScoreOf(grades[0]), 3.0);
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys.count(*keys.begin()), 3u);
}

TEST(HttpGraderTest, IsTooLateWhenTheServerHangs) {
  const HttpTestServer server([](const TestRequest&) { return TestReply{.delay_s = 5.0}; });
  GraderSpec spec = Spec("http", {{"url", server.Url("/")}});
  spec.deadline_s = 0.1;
  EXPECT_EQ(GradeKind(GradeAll(spec, {"a"})[0]), std::string("timeout"));
}

TEST(HttpGraderTest, IsAnErrorWhereTheReplyIsNoListOfGrades) {
  for (const char* body : {"{\"grades\": [1, 2]}", "[]", "oops", "{\"grades\": [\"good\"]}"}) {
    const HttpTestServer server([&](const TestRequest&) { return TestReply{.body = body}; });
    const auto grades = GradeAll(Spec("http", {{"url", server.Url("/")}}), {"a"});
    EXPECT_EQ(GradeKind(grades[0]), std::string("error")) << body;
  }
}

TEST(HttpGraderTest, DoesNotFollowRedirects) {
  const HttpTestServer elsewhere(GradeByLength);
  const HttpTestServer server([&](const TestRequest&) {
    return TestReply{.status = 307, .headers = {{"Location", elsewhere.Url("/")}}};
  });
  EXPECT_THAT(GradeReason(GradeAll(Spec("http", {{"url", server.Url("/")}}), {"a"})[0]),
              HasSubstr("307"));
  EXPECT_EQ(elsewhere.num_requests(), 0);
}

TEST(HttpGraderTest, SendsItsHeadersAndTheKeyFromTheEnvironment) {
  setenv("RFT_TEST_GRADER_KEY", "s3cret", 1);
  const HttpTestServer server([](const TestRequest& request) {
    EXPECT_EQ(request.headers.at("authorization"), "Bearer s3cret");
    EXPECT_EQ(request.headers.at("x-team"), "a");
    return GradeByLength(request);
  });
  GradeAll(Spec("http", {{"url", server.Url("/")},
                         {"api_key_env", "RFT_TEST_GRADER_KEY"},
                         {"headers", R"({"X-Team": "a"})"}}),
           {"a"});
  EXPECT_EQ(server.num_requests(), 1);
  EXPECT_THAT(
      CreationError(Spec("http", {{"url", "http://h/"}, {"api_key_env", "RFT_NO_SUCH_KEY"}})),
      HasSubstr("graders[g].api_key_env: there is no environment variable RFT_NO_SUCH_KEY"));
}

TEST(HttpGraderTest, GoesOnlyToTheHostsAllowed) {
  setenv("RFT_GRADER_HOSTS", "judge.example.org, 127.0.0.1:8000", 1);
  EXPECT_TRUE(CreateGrader(Spec("http", {{"url", "https://judge.example.org/x"}})).ok());
  EXPECT_TRUE(CreateGrader(Spec("http", {{"url", "http://127.0.0.1:8000/x"}})).ok());
  for (const char* url :
       {"http://127.0.0.1:8001/", "http://example.org/", "http://169.254.169.254/"}) {
    EXPECT_THAT(CreationError(Spec("http", {{"url", url}})),
                HasSubstr("is not in RFT_GRADER_HOSTS"))
        << url;
  }
  unsetenv("RFT_GRADER_HOSTS");
  EXPECT_THAT(CreationError(Spec("http", {{"url", "ftp://h/"}})), HasSubstr("graders[g].url: "));
}

TEST(HttpGraderTest, AnswersWhatIsInFlightWhenItIsShutDown) {
  const HttpTestServer server([](const TestRequest&) { return TestReply{.delay_s = 5.0}; });
  auto pool = GraderPool::Create(
      {Spec("http", {{"url", server.Url("/")}, {"max_concurrent", "1"}, {"batch_size", "1"}})});
  ASSERT_TRUE(pool.ok()) << pool.status();
  std::atomic<int> num_shut_down{0};
  for (int i = 0; i < 3; ++i) {
    (*pool)->GradeAsync(std::make_shared<Row>(), std::make_shared<Rollout>(),
                        [&](std::vector<NamedGrade> grades) {
                          if (GradeReason(grades.front().grade) == "shut down") ++num_shut_down;
                        });
  }
  (*pool)->Shutdown();
  EXPECT_EQ(num_shut_down.load(), 3);
}

}  // namespace
}  // namespace rft
