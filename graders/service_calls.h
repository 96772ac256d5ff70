// Exchanges with one HTTP service, some at a time: what graders behind a URL share.
//
// At most max_concurrent requests are under way; the others wait in order, and a request's time-out starts when it is sent.
// Redirects are never followed (rft/net/http_client.h). Thread safety: all members, from any thread.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "graders/param_reader.h"
#include "rft/core/grade.h"
#include "rft/net/http_client.h"

namespace rft {

class ServiceCalls {
 public:
  explicit ServiceCalls(int max_concurrent) : max_concurrent_(max_concurrent) {}
  ~ServiceCalls() { Shutdown(); }

  // `done` is called exactly once, on the client's thread or, after Shutdown, with kCancelled on the caller's.
  void Send(HttpRequest request, HttpClient::Done done);

  // How many more Send starts at once.
  int NumFree() const;

  // Ends everything with kCancelled and waits for it. Idempotent. Not from a `done`.
  void Shutdown();

 private:
  void StartWaiting();  // REQUIRES: mutex_ is held

  const int max_concurrent_;
  mutable std::mutex mutex_;
  std::unique_ptr<HttpClient> client_ = std::make_unique<HttpClient>();
  bool stopped_ = false;  // client_ is not to be touched any more
  std::deque<std::pair<HttpRequest, HttpClient::Done>> waiting_;
  int num_running_ = 0;
};

// What all such graders read from their parameters:
//   url (or base_url)   http:// or https://; with RFT_GRADER_HOSTS set ("judge.example.org,127.0.0.1:8000"), one of those
//   api_key_env         environment variable whose value goes into "Authorization: Bearer"; never written anywhere
//   headers             a map of further headers
//   max_concurrent      requests under way at a time, default 8
//   attempts            of one request, default 3: a lost connection and "later" statuses are tried again
struct ServiceOptions {
  std::string url;
  HttpHeaders headers;
  int max_concurrent = 8;
  int attempts = 3;

  // A POST of JSON; `idempotency_key` is the same for all attempts.
  HttpRequest Request(std::string body, double timeout_s, std::string idempotency_key) const;
};
ServiceOptions ReadServiceOptions(ParamReader& params, std::string_view url_key,
                                  const std::string& default_url = "",
                                  const std::string& default_key_env = "");

// A key no other request has.
std::string NewIdempotencyKey();

// The grade of a failed exchange: Timeout, or GradeError with what happened.
Grade GradeOfFailure(const absl::Status& failure, double deadline_s);

}  // namespace rft
