// A small HTTP server on 127.0.0.1 for tests of clients: answers, hangs, breaks off or sends garbage as its handler says.
//
//   HttpTestServer server([](const TestRequest& request) { return TestReply{.body = "{}"}; });
//   client.Send({.url = server.Url("/grade"), ...});
//
// One thread per connection; the handler may be called from several threads. Ends with the object, whatever the clients do.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace rft::testing {

struct TestRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  int index = 0;  // 0-based, over all connections
};

struct TestReply {
  int status = 200;
  std::string body;
  std::map<std::string, std::string> headers;
  double delay_s = 0.0;      // before anything is sent
  std::string raw;           // sent as it is instead of a response; then the connection is closed
  double hold_s = 0.0;       // wait between `raw` and closing
  bool drop = false;         // close without a word
  bool close_after = false;  // answer, promise to keep the connection, and close it
};

class HttpTestServer {
 public:
  using Handler = std::function<TestReply(const TestRequest&)>;

  // With `certificate` and `key` (PEM text) it speaks TLS.
  explicit HttpTestServer(Handler handler, std::string certificate = "", std::string key = "");
  ~HttpTestServer();

  uint16_t port() const;
  std::string Url(const std::string& target) const;  // with 127.0.0.1
  int num_requests() const;
  int num_connections() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rft::testing
