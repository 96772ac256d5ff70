#include "rft/serve/http_server.h"

#include <atomic>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/serve/api_error.h"
#include "tests/serve/http_testing.h"

namespace rft::serve {
namespace {

using rft::testing::Answer;
using rft::testing::Eventually;
using rft::testing::Fetch;
using rft::testing::RawClient;
using rft::testing::RequestText;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Echoes bodies; keeps what is sent to /keep; floods whoever asks for /flood; refuses /refused.
class EchoService : public HttpService {
 public:
  std::optional<HttpReply> Refuse(const HttpRequest& head) override {
    if (head.path == "/refused") return ErrorReply(403, "no");
    return std::nullopt;
  }
  void Handle(std::shared_ptr<const HttpRequest> request,
              std::shared_ptr<Exchange> exchange) override {
    if (request->path == "/dropped") return;
    if (request->path == "/keep") {
      exchange->OnGone([this] { ++num_gone; });
      std::lock_guard<std::mutex> lock(mutex);
      kept.push_back(exchange);
      return;
    }
    if (request->path == "/flood") {
      exchange->OnGone([this] { ++num_gone; });
      exchange->BeginEvents();
      for (int i = 0; i < 64; ++i) exchange->WriteEvents(std::string(1 << 20, 'x'));
      return;
    }
    if (request->path == "/stream") {
      exchange->BeginEvents();
      for (const char* text : {"data: 1\n\n", "data: 2\n\n"}) exchange->WriteEvents(text);
      return exchange->EndEvents();
    }
    exchange->Reply({.body = request->body + request->query, .content_type = "text/plain"});
  }
  ~EchoService() override = default;

  std::atomic<int> num_gone{0};
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> kept;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void Start(HttpOptions options = {}) { server_ = HttpServer::Start(options, service_).value(); }
  uint16_t port() const { return server_->port(); }
  void ExpectHealthy() { EXPECT_EQ(Fetch(port(), "POST", "/", "ping").body, "ping"); }

  EchoService service_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersSeveralRequestsOnOneConnection) {
  Start();
  RawClient client(port());
  for (const char* body : {"one", "two"}) {
    client.Send(RequestText("POST", "/", body));
    EXPECT_EQ(client.Receive().body, body);
  }
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  Start();
  RawClient client(port());
  client.Send(RequestText("POST", "/", "one") + RequestText("POST", "/", "two"));
  EXPECT_EQ(client.Receive().body, "one");
  EXPECT_EQ(client.Receive().body, "two");
}

TEST_F(HttpServerTest, StreamsEventsInChunks) {
  Start();
  EXPECT_EQ(Fetch(port(), "GET", "/stream").body, "data: 1\n\ndata: 2\n\n");
}

TEST_F(HttpServerTest, StreamsToHttp10ByClosing) {
  Start();
  RawClient client(port());
  client.Send("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.Receive().body, "data: 1\n\ndata: 2\n\n");
}

TEST_F(HttpServerTest, ReadsChunkedBodies) {
  Start();
  RawClient client(port());
  client.Send(
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
  EXPECT_EQ(client.Receive().body, "abcd");
}

TEST_F(HttpServerTest, InvitesABodyThatWaitsForIt) {
  Start();
  RawClient client(port());
  client.Send("POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 100);
  client.Send("ok");
  EXPECT_EQ(client.Receive().body, "ok");
}

TEST_F(HttpServerTest, EchoesOnlyHarmlessRequestIds) {
  Start();
  EXPECT_EQ(Fetch(port(), "GET", "/", "", "X-Request-Id: abc-1\r\n").headers["x-request-id"],
            "abc-1");
  EXPECT_FALSE(
      Fetch(port(), "GET", "/", "", "X-Request-Id: a:b\r\n").headers.contains("x-request-id"));
}

TEST_F(HttpServerTest, RefusesABodyOfAGibibyteWithoutReadingIt) {
  Start();
  RawClient client(port());
  client.Send("POST / HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\nsome of it");
  EXPECT_EQ(client.Receive().status, 413);
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesALongChunkedBodyAtTheLimit) {
  Start({.max_body_bytes = 1000});
  RawClient client(port());
  client.Send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n" +
              std::string(5000, 'x'));
  EXPECT_EQ(client.Receive().status, 413);
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesALongHeader) {
  Start();
  RawClient client(port());
  client.Send("GET / HTTP/1.1\r\nX: " + std::string(100000, 'x') + "\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 431);
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesMoreBodiesThanItsBudget) {
  Start({.max_bodies_bytes = 1000});
  RawClient first(port());
  first.Send("POST / HTTP/1.1\r\nContent-Length: 800\r\n\r\n");
  EXPECT_TRUE(
      Eventually([&] { return Fetch(port(), "POST", "/", std::string(300, 'x')).status == 503; }));
  first.Send(std::string(800, 'y'));
  EXPECT_EQ(first.Receive().status, 200);
  EXPECT_EQ(Fetch(port(), "POST", "/", std::string(300, 'x')).status, 200);
}

TEST_F(HttpServerTest, AnswersGarbageWith400) {
  Start();
  RawClient client(port());
  client.Send("\x16\x03\x01 this is no HTTP\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 400);
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesBeforeTheBodyIsRead) {
  Start();
  RawClient client(port());
  client.Send("POST /refused HTTP/1.1\r\nContent-Length: 100\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 403);
  EXPECT_TRUE(client.ClosedByPeer());
}

TEST_F(HttpServerTest, ClosesConnectionsThatSendTooSlowly) {
  Start({.header_deadline_s = 0.3, .body_deadline_s = 0.3});
  RawClient header(port()), body(port());
  header.Send("GET / HT");
  body.Send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_TRUE(header.ClosedByPeer());
  EXPECT_TRUE(body.ClosedByPeer());
  ExpectHealthy();
}

TEST_F(HttpServerTest, StaysReachableWhenSlowClientsTakeAllConnections) {
  Start({.max_connections = 8});
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 30; ++i) {
    slow.push_back(std::make_unique<RawClient>(port()));
    slow.back()->Send("GET / HTTP/1.1\r\nX-Slow: ");
  }
  ExpectHealthy();
  EXPECT_LE(server_->num_connections(), 8);
}

TEST_F(HttpServerTest, TellsTheServiceWhenAClientGoesAway) {
  Start();
  RawClient orderly(port()), rude(port());
  orderly.Send(RequestText("GET", "/keep"));
  rude.Send(RequestText("GET", "/keep"));
  EXPECT_TRUE(Eventually([&] {
    std::lock_guard<std::mutex> lock(service_.mutex);
    return service_.kept.size() == 2;
  }));
  orderly.Close();
  rude.Abort();
  EXPECT_TRUE(Eventually([&] { return service_.num_gone == 2; }));
  for (const auto& exchange : service_.kept) exchange->Reply({});  // too late, harmless
  ExpectHealthy();
}

TEST_F(HttpServerTest, DropsAClientThatDoesNotReadItsStream) {
  Start({.max_backlog_bytes = 1 << 20});
  RawClient client(port());
  client.Send(RequestText("GET", "/flood"));
  EXPECT_TRUE(Eventually([&] { return service_.num_gone == 1; }));
  ExpectHealthy();
}

TEST_F(HttpServerTest, AnswersForAServiceThatForgot) {
  Start();
  EXPECT_EQ(Fetch(port(), "GET", "/dropped").status, 500);
}

TEST_F(HttpServerTest, StopsWithRequestsUnderWay) {
  Start();
  RawClient client(port()), idle(port());
  client.Send(RequestText("GET", "/keep"));
  EXPECT_TRUE(Eventually([&] {
    std::lock_guard<std::mutex> lock(service_.mutex);
    return service_.kept.size() == 1;
  }));
  server_->Stop();
  EXPECT_EQ(service_.num_gone, 1);
  service_.kept[0]->Reply({});
  EXPECT_TRUE(client.ClosedByPeer());
}

TEST_F(HttpServerTest, SaysThatAPortIsTaken) {
  Start();
  EchoService other;
  const auto second = HttpServer::Start({.port = port()}, other);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("choose another port"));
}

}  // namespace
}  // namespace rft::serve
