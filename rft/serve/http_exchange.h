// One HTTP request and the way to answer it: what services see of the HTTP server. No sockets here.
//
// Lifetime: an Exchange may be kept as long as its service likes; answering a client that has gone is a no-op. One that is
// dropped without an answer is answered with status 500.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rft::serve {

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // as sent, without the query: never collapsed, never decoded
  std::string query;   // "mode=abort", as sent
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;
  std::string peer;  // the client's address

  // The first header of this (lower-case) name; empty if there is none.
  std::string_view Header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (key == name) return value;
    return {};
  }
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  // REQUIRES: no line breaks in them
};

// Thread safety: all methods may be called from any thread.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // The whole answer. The first answer counts, later ones are ignored.
  virtual void Reply(HttpReply reply) = 0;
  // Or a stream of server-sent events: BeginEvents once, then pieces of "data: ...\n\n" text, then EndEvents.
  virtual void BeginEvents() = 0;
  virtual void WriteEvents(std::string text) = 0;
  virtual void EndEvents() = 0;
  // `callback` runs on the I/O thread, once, if the client goes away (or is too slow to read) before the answer's end; at
  // once if it has gone already. REQUIRES: called at most once.
  virtual void OnGone(std::function<void()> callback) = 0;
  // Runs `work` on the I/O thread, in order. It must be short.
  virtual void Post(std::function<void()> work) = 0;
};

class HttpService {
 public:
  virtual ~HttpService() = default;
  // Called on the I/O thread when the header is there and nothing of the body has been read: a reply refuses the request.
  virtual std::optional<HttpReply> Refuse(const HttpRequest& head) = 0;
  // Called on a worker thread with the whole request. May block; may keep `exchange` and answer later.
  virtual void Handle(std::shared_ptr<const HttpRequest> request,
                      std::shared_ptr<Exchange> exchange) = 0;
};

}  // namespace rft::serve
