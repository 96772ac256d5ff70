#include "graders/service_calls.h"

#include <atomic>
#include <cstdlib>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "rft/io/json.h"
#include "rft/net/http_url.h"

namespace rft {
namespace {

constexpr size_t kMaxReplyBytes = size_t{16} << 20;

bool IsAllowedHost(const HttpUrl& url, std::string_view list) {
  const std::string with_port = absl::StrCat(url.host, ":", url.port);
  for (const absl::string_view entry :
       absl::StrSplit(absl::string_view(list.data(), list.size()), ',', absl::SkipWhitespace())) {
    const absl::string_view host = absl::StripAsciiWhitespace(entry);
    if (host == url.host || host == with_port) return true;
  }
  return false;
}

void CheckUrl(ParamReader& params, std::string_view key, const std::string& text) {
  const absl::StatusOr<HttpUrl> url = ParseHttpUrl(text);
  if (!url.ok()) return params.AddError(key, std::string(url.status().message()));
  const char* allowed = std::getenv("RFT_GRADER_HOSTS");
  if (allowed != nullptr && !IsAllowedHost(*url, allowed)) {
    params.AddError(key, absl::StrCat("the host ", url->HostHeader(),
                                      " is not in RFT_GRADER_HOSTS (", allowed, ")"));
  }
}

void ReadHeaders(ParamReader& params, HttpHeaders* headers) {
  const absl::StatusOr<json::value> map = ParseJson(params.String("headers", "{}"));
  bool good = map.ok() && map->is_object();
  if (good) {
    for (const json::key_value_pair& member : map->get_object()) {
      good = good && member.value().is_string();
      if (good) headers->emplace_back(member.key(), std::string(member.value().get_string()));
    }
  }
  if (!good) params.AddError("headers", "must be a map of texts");
}

}  // namespace

void ServiceCalls::Send(HttpRequest request, HttpClient::Done done) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stopped_) {
      waiting_.emplace_back(std::move(request), std::move(done));
      return StartWaiting();
    }
  }
  done(absl::CancelledError("shut down"));
}

int ServiceCalls::NumFree() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return max_concurrent_ - num_running_ - static_cast<int>(waiting_.size());
}

// SendAsync does not call back before it returns, so the lock may be held.
void ServiceCalls::StartWaiting() {
  while (!stopped_ && num_running_ < max_concurrent_ && !waiting_.empty()) {
    ++num_running_;
    auto [request, done] = std::move(waiting_.front());
    waiting_.pop_front();
    client_->SendAsync(std::move(request),
                       [this, done = std::move(done)](absl::StatusOr<HttpResponse> response) {
                         {
                           std::lock_guard<std::mutex> lock(mutex_);
                           --num_running_;
                           StartWaiting();
                         }
                         done(std::move(response));
                       });
  }
}

void ServiceCalls::Shutdown() {
  std::deque<std::pair<HttpRequest, HttpClient::Done>> waiting;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
    waiting.swap(waiting_);
  }
  for (auto& [request, done] : waiting) done(absl::CancelledError("shut down"));
  client_.reset();  // ends what is in flight and waits for its last `done`
}

HttpRequest ServiceOptions::Request(std::string body, double timeout_s,
                                    std::string idempotency_key) const {
  HttpRequest request;
  request.url = url;
  request.headers = headers;
  request.headers.emplace_back("Idempotency-Key", std::move(idempotency_key));
  request.body = std::move(body);
  request.timeout_s = timeout_s;
  request.max_response_bytes = kMaxReplyBytes;
  request.retry.max_attempts = attempts;
  return request;
}

ServiceOptions ReadServiceOptions(ParamReader& params, std::string_view url_key,
                                  const std::string& default_url,
                                  const std::string& default_key_env) {
  ServiceOptions options;
  options.url =
      default_url.empty() ? params.Required(url_key) : params.String(url_key, default_url);
  if (!options.url.empty()) CheckUrl(params, url_key, options.url);
  ReadHeaders(params, &options.headers);
  const std::string key_env = params.String("api_key_env", default_key_env);
  const char* key = key_env.empty() ? nullptr : std::getenv(key_env.c_str());
  if (key != nullptr) {
    options.headers.emplace_back("Authorization", absl::StrCat("Bearer ", key));
  } else if (params.Has("api_key_env")) {
    params.AddError("api_key_env", absl::StrCat("there is no environment variable ", key_env));
  }
  options.max_concurrent = static_cast<int>(params.Int("max_concurrent", 8, 1, 1024));
  options.attempts = static_cast<int>(params.Int("attempts", 3, 1, 20));
  return options;
}

std::string NewIdempotencyKey() {
  static const uint64_t process = [] {
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
  }();
  static std::atomic<uint64_t> next{0};
  return absl::StrCat("rft-", absl::Hex(process, absl::kZeroPad16), "-", next.fetch_add(1));
}

Grade GradeOfFailure(const absl::Status& failure, double deadline_s) {
  if (failure.code() == absl::StatusCode::kDeadlineExceeded) return Timeout{deadline_s};
  if (failure.code() == absl::StatusCode::kCancelled) return GradeError{"shut down"};
  return GradeError{std::string(failure.message())};
}

}  // namespace rft
