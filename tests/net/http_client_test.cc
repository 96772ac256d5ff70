#include "rft/net/http_client.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>
#include <vector>

#include "tests/testing/http_test_server.h"

namespace rft {
namespace {

using ::testing::HasSubstr;
using testing::HttpTestServer;
using testing::TestReply;
using testing::TestRequest;

double SecondsOf(const std::function<void()>& what) {
  const auto start = std::chrono::steady_clock::now();
  what();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TestReply Echo(const TestRequest& request) {
  return {
      .body = request.method + " " + request.target + " " + request.body,
      .headers = {
          {"X-Content-Type",
           request.headers.count("content-type") ? request.headers.at("content-type") : "none"},
          {"X-Key", request.headers.count("idempotency-key") ? request.headers.at("idempotency-key")
                                                             : "none"}}};
}

TEST(HttpClientTest, SendsMethodTargetHeadersAndBody) {
  HttpTestServer server(Echo);
  HttpClient client;
  const absl::StatusOr<HttpResponse> response = client.Send(
      {.url = server.Url("/a?b=c"), .headers = {{"Idempotency-Key", "k1"}}, .body = "{\"x\":1}"});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, "POST /a?b=c {\"x\":1}");
  EXPECT_EQ(response->Header("x-content-type"), "application/json");
  EXPECT_EQ(response->Header("X-KEY"), "k1");
  EXPECT_EQ(response->Header("absent"), "");
  const absl::StatusOr<HttpResponse> got = client.Send({.method = "GET", .url = server.Url("/")});
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->body, "GET / ");
  EXPECT_EQ(got->Header("x-content-type"), "none");
}

TEST(HttpClientTest, UsesAConnectionAgain) {
  HttpTestServer server(Echo);
  HttpClient client;
  for (int i = 0; i < 5; ++i) {
    const auto response = client.Send({.url = server.Url("/"), .body = std::string(100'000, 'x')});
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body.size(), 100'007u);
  }
  EXPECT_EQ(server.num_connections(), 1);
}

TEST(HttpClientTest, NoticesThatAnIdleConnectionWasClosed) {
  HttpTestServer server(
      [](const TestRequest&) { return TestReply{.body = "x", .close_after = true}; });
  HttpClient client;
  for (int i = 0; i < 3; ++i) {
    const auto response = client.Send({.url = server.Url("/")});
    ASSERT_TRUE(response.ok()) << response.status();
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // let the close arrive
  }
  EXPECT_EQ(server.num_connections(), 3);
}

TEST(HttpClientTest, RunsManyExchangesAtOnce) {
  HttpTestServer server(
      [](const TestRequest& request) { return TestReply{.body = request.body, .delay_s = 0.1}; });
  HttpClient client;
  std::vector<std::promise<absl::StatusOr<HttpResponse>>> answers(20);
  const double seconds = SecondsOf([&] {
    for (size_t i = 0; i < answers.size(); ++i) {
      client.SendAsync({.url = server.Url("/"), .body = std::to_string(i)},
                       [&answers, i](absl::StatusOr<HttpResponse> response) {
                         answers[i].set_value(std::move(response));
                       });
    }
    for (size_t i = 0; i < answers.size(); ++i) {
      const auto response = answers[i].get_future().get();
      ASSERT_TRUE(response.ok()) << response.status();
      EXPECT_EQ(response->body, std::to_string(i));
    }
  });
  EXPECT_LT(seconds, 1.0);  // one after another: 2 s
}

TEST(HttpClientTest, EndsAtTheDeadlineWhateverTheServerDoes) {
  HttpTestServer server([](const TestRequest& request) {
    if (request.target == "/headers")
      return TestReply{.raw = "HTTP/1.1 200 OK\r\nContent-Le", .hold_s = 9};
    return TestReply{.delay_s = 9};
  });
  HttpClient client;
  const double seconds = SecondsOf([&] {
    for (const char* target : {"/hang?secret=1", "/headers"}) {
      const auto response = client.Send({.url = server.Url(target), .timeout_s = 0.2});
      EXPECT_EQ(response.status().code(), absl::StatusCode::kDeadlineExceeded);
      EXPECT_THAT(std::string(response.status().message()), HasSubstr("no answer within 0.2 s"));
      EXPECT_EQ(response.status().message().find("secret"), absl::string_view::npos);
    }
  });
  EXPECT_LT(seconds, 2.0);
}

TEST(HttpClientTest, RefusesAResponseThatIsTooLarge) {
  HttpTestServer server([](const TestRequest& request) {
    if (request.target == "/announced") {
      return TestReply{.raw = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"};
    }
    return TestReply{.raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
                            std::string(2000, 'x') + "\r\n0\r\n\r\n"};
  });
  HttpClient client;
  for (const char* target : {"/announced", "/chunked"}) {
    const auto response = client.Send({.url = server.Url(target), .max_response_bytes = 1000});
    EXPECT_EQ(response.status().code(), absl::StatusCode::kResourceExhausted) << response.status();
  }
  const auto fits = client.Send({.url = server.Url("/chunked"), .max_response_bytes = 2000});
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_EQ(fits->body.size(), 2000u);
}

TEST(HttpClientTest, DoesNotFollowRedirects) {
  HttpTestServer server([](const TestRequest&) {
    return TestReply{.status = 302, .headers = {{"Location", "/elsewhere"}}};
  });
  HttpClient client;
  const auto response = client.Send({.url = server.Url("/")});
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->status, 302);
  EXPECT_EQ(HttpStatus(*response).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(server.num_requests(), 1);
}

TEST(HttpClientTest, TellsLostConnectionsFromGarbage) {
  HttpTestServer server([](const TestRequest& request) {
    if (request.target == "/drop") return TestReply{.drop = true};
    if (request.target == "/half") {
      return TestReply{.raw = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"};
    }
    return TestReply{.raw = "SSH-2.0-OpenSSH_9.2\r\n\r\n"};
  });
  HttpClient client;
  EXPECT_EQ(client.Send({.url = server.Url("/drop")}).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(client.Send({.url = server.Url("/half")}).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(client.Send({.url = server.Url("/garbage")}).status().code(),
            absl::StatusCode::kDataLoss);
  uint16_t closed_port = 0;
  {
    HttpTestServer gone(Echo);
    closed_port = gone.port();
  }
  const auto refused =
      client.Send({.url = "http://127.0.0.1:" + std::to_string(closed_port) + "/x"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("can't connect"));
}

TEST(HttpClientTest, TriesAgainWithTheSameKeyUntilTheServerRecovers) {
  std::vector<std::string> keys;
  HttpTestServer server([&](const TestRequest& request) {
    keys.push_back(request.headers.at("idempotency-key"));
    if (request.index == 0) return TestReply{.drop = true};
    if (request.index == 1) return TestReply{.status = 503, .headers = {{"Retry-After", "0.15"}}};
    return TestReply{.body = "done"};
  });
  HttpClient client;
  absl::StatusOr<HttpResponse> response;
  const double seconds = SecondsOf([&] {
    response = client.Send({.url = server.Url("/"),
                            .headers = {{"Idempotency-Key", "k"}},
                            .body = "{}",
                            .retry = {.max_attempts = 4, .first_delay_s = 0.01}});
  });
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "done");
  EXPECT_EQ(response->num_attempts, 3);
  EXPECT_GE(seconds, 0.16);
  EXPECT_EQ(keys, (std::vector<std::string>{"k", "k", "k"}));
}

TEST(HttpClientTest, GivesTheLastAnswerWhenAttemptsRunOutAndDoesNotRepeatMistakes) {
  HttpTestServer server([](const TestRequest& request) {
    return TestReply{.status = request.target == "/busy" ? 429 : 400, .body = "no"};
  });
  HttpClient client;
  const HttpRetry retry = {.max_attempts = 3, .first_delay_s = 0.001};
  const auto busy = client.Send({.url = server.Url("/busy"), .retry = retry});
  ASSERT_TRUE(busy.ok());
  EXPECT_EQ(busy->num_attempts, 3);
  EXPECT_EQ(HttpStatus(*busy), absl::ResourceExhaustedError("HTTP 429: no"));
  const auto bad = client.Send({.url = server.Url("/bad"), .retry = retry});
  ASSERT_TRUE(bad.ok());
  EXPECT_EQ(bad->num_attempts, 1);
  EXPECT_EQ(HttpStatus(*bad), absl::InvalidArgumentError("HTTP 400: no"));
  EXPECT_EQ(server.num_requests(), 4);
}

TEST(HttpClientTest, CancelEndsAnExchangeAtOnce) {
  HttpTestServer server([](const TestRequest&) { return TestReply{.delay_s = 9}; });
  HttpClient client;
  std::promise<absl::StatusOr<HttpResponse>> answer;
  const uint64_t id =
      client.SendAsync({.url = server.Url("/")},
                       [&](absl::StatusOr<HttpResponse> r) { answer.set_value(std::move(r)); });
  client.Cancel(id);
  client.Cancel(id);  // nothing happens
  EXPECT_EQ(answer.get_future().get().status().code(), absl::StatusCode::kCancelled);
}

TEST(HttpClientTest, DestructionAnswersWhatIsInFlight) {
  HttpTestServer server([](const TestRequest&) { return TestReply{.delay_s = 9}; });
  absl::Status status;
  {
    HttpClient client;
    client.SendAsync({.url = server.Url("/")},
                     [&](absl::StatusOr<HttpResponse> response) { status = response.status(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST(HttpClientTest, RefusesHeadersThatWouldSmuggleOthers) {
  HttpTestServer server(Echo);
  HttpClient client;
  const HttpHeaders bad[] = {{{"X", "a\r\nY: b"}}, {{"X: Y", "a"}}, {{"", "a"}}, {{"X\n", "a"}}};
  for (const HttpHeaders& headers : bad) {
    EXPECT_EQ(client.Send({.url = server.Url("/"), .headers = headers}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(client.Send({.method = "GET /x HTTP/1.1\r\n", .url = server.Url("/")}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server.num_requests(), 0);
}

}  // namespace
}  // namespace rft
