#include "rft/remote/http_engine.h"

#include <filesystem>

#include "rft/serve/server.h"
#include "tests/testing/engine_contract.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/http_test_server.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using testing::EngineCase;
using testing::EngineContractTest;
using testing::EngineUnderTest;
using testing::FakeAnswer;
using testing::FakeCodec;
using testing::FakeEngine;
using testing::FakeWeights;
using ::testing::HasSubstr;
using testing::HttpTestServer;
using testing::Recorder;
using ::testing::StartsWith;
using testing::TestReply;
using testing::TestRequest;

constexpr const char* kModels =
    R"({"data": [{"id": "m", "max_model_len": 200, "weight_version": 0}]})";
constexpr const char* kGood = R"({"choices": [{"index": 0, "text": "a", "finish_reason": "stop",
  "logprobs": {"tokens": ["token_id:97"], "token_logprobs": [-1]}}]})";

FakeAnswer AsLongAsAsked(const GenerateRequest& request, int32_t) {
  const int32_t length = request.sampling.max_tokens;
  return {.text = std::string(static_cast<size_t>(length), 'x'),
          .finish_reason = FinishReason::kLength,
          .token_delay_s = length > 100 ? 0.05 : 0.0};
}

// HttpEngine -> our own server -> the fake engine.
class HttpOverFake : public EngineUnderTest {
 public:
  HttpOverFake() : fake_(AsLongAsAsked, 200) {
    serve::ServiceParts parts{.engine = &fake_, .codec = std::make_shared<FakeCodec>()};
    parts.load_weights = [this](const std::string&) -> absl::StatusOr<int64_t> {
      return fake_.Publish(std::make_shared<FakeWeights>(++fake_version_)).ok() ? fake_version_
                                                                                : -1;
    };
    server_ = serve::Server::Start({}, {.model_names = {"m"}, .weights_root = dir_.path()},
                                   std::move(parts))
                  .value();
    engine_ = CreateHttpEngine({.url = "http://127.0.0.1:" + std::to_string(server_->port()),
                                .deadline_s = 30,
                                .queue_limit = 64})
                  .value();
  }
  InferenceEngine& engine() override { return *engine_; }
  std::vector<TokenId> prompt() override { return testing::ByteIds("hi"); }
  int64_t Publish() override {
    EXPECT_TRUE(engine_->Publish(std::make_shared<FolderWeights>(dir_.path(), 41)).ok());
    return 41;
  }
  serve::Server& server() { return *server_; }
  FakeEngine& fake() { return fake_; }

 private:
  testing::TempDir dir_;
  int64_t fake_version_ = 0;
  FakeEngine fake_;
  std::unique_ptr<serve::Server> server_;
  std::unique_ptr<InferenceEngine> engine_;
};

INSTANTIATE_TEST_SUITE_P(Http, EngineContractTest,
                         ::testing::Values(EngineCase{
                             "HttpOverFake", [] { return std::make_unique<HttpOverFake>(); }}),
                         testing::EngineName);

GenerateRequest Request() {
  GenerateRequest request;
  request.prompt = {104};
  request.sampling.max_tokens = 8;
  return request;
}

Completion RunOne(InferenceEngine& engine, GenerateRequest request = Request()) {
  auto sink = std::make_shared<Recorder>(1);
  EXPECT_TRUE(engine.Submit(std::move(request), sink).ok());
  EXPECT_TRUE(sink->Wait());
  return sink->finished()[0][0];
}

// The error of one request to a server that answers generation requests like this.
std::string ErrorFrom(const TestReply& reply, double deadline_s = 5.0) {
  HttpTestServer server([reply](const TestRequest& request) {
    return request.method == "GET" ? TestReply{.body = kModels} : reply;
  });
  auto engine =
      CreateHttpEngine({.url = server.Url(""), .deadline_s = deadline_s, .max_attempts = 1});
  EXPECT_TRUE(engine.ok()) << engine.status();
  const Completion completion = RunOne(**engine);
  EXPECT_EQ(completion.finish_reason, FinishReason::kError);
  EXPECT_TRUE(completion.ids.empty());
  return completion.error;
}

TEST(HttpEngineTest, CarriesRoutesOfMoreThanTwoHundredAndFiftySixExperts) {
  const RouteCodec codec(2, 384, 3);
  const int32_t experts[] = {0, 255, 256, 5, 300, 383};
  std::vector<uint8_t> route(codec.token_bytes());
  codec.Encode(experts, route.data());
  FakeEngine fake(
      [&](const GenerateRequest&, int32_t) { return FakeAnswer{.text = "ab", .route = route}; });
  const auto server =
      serve::Server::Start(
          {}, {.model_names = {"m"}},
          {.engine = &fake, .codec = std::make_shared<FakeCodec>(), .routes = codec})
          .value();
  const auto engine = CreateHttpEngine({.url = "http://127.0.0.1:" + std::to_string(server->port()),
                                        .routes = codec})
                          .value();
  GenerateRequest request = Request();
  request.routes = RouteCapture::kCompletion;
  const Completion completion = RunOne(*engine, request);
  ASSERT_EQ(completion.ids.size(), 3u) << completion.error;
  std::vector<uint8_t> expected;
  for (int t = 0; t < 3; ++t) expected.insert(expected.end(), route.begin(), route.end());
  EXPECT_EQ(completion.routes, expected);
}

TEST(HttpEngineTest, CancelsAtTheServerToo) {
  HttpOverFake http;
  GenerateRequest request = Request();
  request.sampling.max_tokens = 150;
  auto sink = std::make_shared<Recorder>(1);
  const auto handle = http.engine().Submit(request, sink);
  while (http.fake().num_open() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  http.engine().Cancel(*handle);
  ASSERT_TRUE(sink->Wait());
  for (int i = 0; i < 1000 && http.fake().num_open() > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(http.fake().num_open(), 0);
}

TEST(HttpEngineTest, ReportsTheDeathOfItsServer) {
  HttpOverFake http;
  GenerateRequest request = Request();
  request.sampling.max_tokens = 150;
  auto sink = std::make_shared<Recorder>(1);
  ASSERT_TRUE(http.engine().Submit(request, sink).ok());
  while (http.fake().num_open() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  http.server().Stop();
  ASSERT_TRUE(sink->Wait());
  EXPECT_THAT(sink->finished()[0][0].error, StartsWith("UNAVAILABLE: "));
}

TEST(HttpEngineTest, TellsFailuresApart) {
  EXPECT_THAT(ErrorFrom({.drop = true}), StartsWith("UNAVAILABLE: "));
  EXPECT_THAT(ErrorFrom({.raw = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choices\""}),
              StartsWith("UNAVAILABLE: "));
  EXPECT_THAT(ErrorFrom({.raw = "\x01\x02 garbage\r\n\r\n"}), StartsWith("DATA_LOSS: "));
  EXPECT_THAT(ErrorFrom({.body = std::string(kGood).substr(0, 60)}), StartsWith("DATA_LOSS: "));
  EXPECT_THAT(ErrorFrom({.body = kGood, .delay_s = 3.0}, 0.3), StartsWith("DEADLINE_EXCEEDED: "));
  EXPECT_THAT(ErrorFrom({.status = 429, .body = "{}"}), StartsWith("RESOURCE_EXHAUSTED: "));
  EXPECT_THAT(ErrorFrom({.status = 400, .body = R"({"error": "bad top_p"})"}),
              ::testing::AllOf(StartsWith("INVALID_ARGUMENT: "), HasSubstr("bad top_p")));
  EXPECT_THAT(ErrorFrom({.body = R"({"choices": [{"finish_reason": "stop", "logprobs":
      {"tokens": ["token_id:1"], "token_logprobs": [NaN]}}]})"}),
              StartsWith("DATA_LOSS: "));
}

TEST(HttpEngineTest, GoesOnAfterABadReply) {
  HttpTestServer server([](const TestRequest& request) {
    if (request.method == "GET") return TestReply{.body = kModels};
    return request.index == 1 ? TestReply{.body = "{}"} : TestReply{.body = kGood};
  });
  auto engine = CreateHttpEngine({.url = server.Url(""), .dialect = HttpDialect::kVllm}).value();
  EXPECT_THAT(RunOne(*engine).error, StartsWith("DATA_LOSS: "));
  EXPECT_EQ(RunOne(*engine).ids, std::vector<TokenId>{97});
}

TEST(HttpEngineTest, TriesAgainWhileTheServerSaysLater) {
  HttpTestServer server([](const TestRequest& request) {
    if (request.method == "GET") return TestReply{.body = kModels};
    return request.index < 3 ? TestReply{.status = 503} : TestReply{.body = kGood};
  });
  auto engine = CreateHttpEngine({.url = server.Url(""), .max_attempts = 3}).value();
  EXPECT_EQ(RunOne(*engine).finish_reason, FinishReason::kStop);
}

TEST(HttpEngineTest, SaysWhatIsWrongWithAServer) {
  HttpTestServer odd([](const TestRequest&) { return TestReply{.body = "hello"}; });
  HttpTestServer other([](const TestRequest&) { return TestReply{.body = kModels}; });
  EXPECT_EQ(CreateHttpEngine({.url = odd.Url("")}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(
      std::string(CreateHttpEngine({.url = other.Url(""), .model = "x"}).status().message()),
      HasSubstr("has no model 'x'"));
  EXPECT_EQ(CreateHttpEngine({.url = "http://127.0.0.1:1", .max_attempts = 1}).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(HttpEngineTest, TakesOnlyWeightsThatLieInAFolder) {
  HttpOverFake http;
  EXPECT_EQ(http.engine().Publish(std::make_shared<FakeWeights>(3)).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rft
