// An HTTP/1.1 client for JSON services: graders behind a URL, LLM judges, inference servers.
//
//   HttpClient client;
//   absl::StatusOr<HttpResponse> response = client.Send(
//       {.url = "http://127.0.0.1:8000/v1/completions", .body = ToJson(request), .timeout_s = 30});
//
//   SendAsync --> one I/O thread: [look up, connect, write, read] --> done
//                                  ^---- wait, try again ----'
//
// One exchange per connection at a time; connections are kept open and used again. Redirects are not followed (a 3xx is
// a response like any other), no proxy is used, no cookies are kept, nothing is decompressed. Certificates are verified
// against the system's authorities.
//
// Errors: a response, whatever its status, is a value. kInvalidArgument: a bad URL or header. kUnavailable: no connection,
// or lost before the response was complete. kDeadlineExceeded: timeout_s. kResourceExhausted: the response is larger than
// max_response_bytes. kDataLoss: not HTTP. kCancelled: Cancel or destruction. Messages name method and URL without query.
//
// Thread safety: all members, from any thread; `done` runs on the client's I/O thread, must be quick and must not call
// the blocking Send.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace rft {

// A new attempt follows when the connection failed or was lost, or the status says "later" (408, 425, 429, 500, 502, 503,
// 504): whoever raises max_attempts sends something that may arrive twice, with an Idempotency-Key header if need be.
// Delays double from first_delay_s and vary by up to half (so that many clients don't come back together); the server's
// Retry-After counts if it is longer, max_delay_s at most.
struct HttpRetry {
  int max_attempts = 1;  // >= 1
  double first_delay_s = 0.25;
  double max_delay_s = 10.0;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "POST";
  std::string url;
  HttpHeaders headers;  // Content-Type: application/json is added to a body unless one is given
  std::string body;
  double timeout_s =
      60.0;  // everything, from name look-up to the last byte, further attempts included
  size_t max_response_bytes = size_t{16} << 20;
  HttpRetry retry;
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;
  std::string body;
  int num_attempts = 1;

  bool ok() const { return status >= 200 && status < 300; }
  // The first header of that name, whatever its case; "" if there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpClientOptions {
  std::string ca_file;  // PEM; the only authorities trusted if not empty
  int max_idle_connections = 64;
  double max_idle_s = 20.0;  // an idle connection older than this is not used again
};

class HttpClient {
 public:
  using Done = std::function<void(absl::StatusOr<HttpResponse>)>;

  explicit HttpClient(const HttpClientOptions& options = {});
  ~HttpClient();  // what is in flight ends with kCancelled; waits for the last `done`
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // `done` is called exactly once. Returns an id for Cancel.
  uint64_t SendAsync(HttpRequest request, Done done);
  // Ends an exchange with kCancelled and closes its connection. Nothing happens if it has ended.
  void Cancel(uint64_t id);

  absl::StatusOr<HttpResponse> Send(HttpRequest request);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// OK for 2xx, else a Status whose code fits (400 and 422 kInvalidArgument, 401 kUnauthenticated, 403 kPermissionDenied,
// 404 kNotFound, 408 and 504 kDeadlineExceeded, 409 kAborted, 429 kResourceExhausted, 5xx kUnavailable, others
// kFailedPrecondition) and whose message holds the status and the beginning of the body.
absl::Status HttpStatus(const HttpResponse& response);

}  // namespace rft
