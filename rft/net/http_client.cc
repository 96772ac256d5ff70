#include "rft/net/http_client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <list>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "rft/net/http_connection.h"
#include "rft/net/http_url.h"

namespace rft {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e8)));
}

bool IsToken(std::string_view text) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](unsigned char c) {
    return absl::ascii_isalnum(c) || kOthers.find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// A line break in a header would be a second header.
absl::Status CheckHeaders(const HttpHeaders& headers) {
  for (const auto& [name, value] : headers) {
    if (!IsToken(name)) {
      return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not a header name"));
    }
    for (const unsigned char c : value) {
      if (c == '\t' || (c >= 0x20 && c != 0x7f)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("header ", name, ": the value holds a control character"));
    }
  }
  return absl::OkStatus();
}

bool ComesBackLater(int status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
         status == 503 || status == 504;
}

bool IsWorthAnotherTry(const absl::StatusOr<HttpResponse>& result) {
  return result.ok() ? ComesBackLater(result->status) : absl::IsUnavailable(result.status());
}

HttpResponse TakeResponse(http::response_parser<http::string_body>& parser) {
  http::response<http::string_body> message = parser.release();
  HttpResponse response;
  response.status = static_cast<int>(message.result_int());
  for (const auto& field : message) {
    response.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  response.body = std::move(message.body());
  return response;
}

// One call of SendAsync. Lives on the I/O thread, until its coroutine ends.
struct Exchange {
  explicit Exchange(asio::io_context& io) : deadline(io), delay(io) {}
  uint64_t id = 0;
  HttpRequest request;
  HttpUrl url;
  std::string where;  // "POST http://host/path", for messages
  HttpClient::Done done;
  asio::steady_timer deadline;
  asio::steady_timer delay;                    // before the next attempt
  std::shared_ptr<HttpConnection> connection;  // while an attempt runs
  bool finished = false;
};

}  // namespace

class HttpClient::Impl {
 public:
  explicit Impl(const HttpClientOptions& options)
      : options_(options), work_(asio::make_work_guard(io_)), thread_([this] { io_.run(); }) {}

  ~Impl() {
    asio::post(io_, [this] {
      stopping_ = true;
      while (!exchanges_.empty()) {
        Finish(exchanges_.begin()->second, absl::CancelledError("the client was shut down"));
      }
      idle_.clear();
      work_.reset();
    });
    thread_.join();
  }

  uint64_t Start(HttpRequest request, Done done) {
    auto exchange = std::make_shared<Exchange>(io_);
    exchange->id = next_id_.fetch_add(1);
    exchange->request = std::move(request);
    exchange->done = std::move(done);
    asio::post(io_, [this, exchange] { Begin(exchange); });
    return exchange->id;
  }

  void Cancel(uint64_t id) {
    asio::post(io_, [this, id] {
      if (auto it = exchanges_.find(id); it != exchanges_.end()) {
        Finish(it->second, absl::CancelledError(it->second->where + ": cancelled"));
      }
    });
  }

 private:
  using ExchangePtr = std::shared_ptr<Exchange>;
  struct Idle {
    std::string origin;
    Clock::time_point since;
    std::shared_ptr<HttpConnection> connection;
  };

  void Begin(const ExchangePtr& exchange) {
    exchanges_[exchange->id] = exchange;
    const HttpRequest& request = exchange->request;
    absl::StatusOr<HttpUrl> url = ParseHttpUrl(request.url);
    if (!url.ok()) return Finish(exchange, url.status());
    exchange->url = *std::move(url);
    const std::string& target = exchange->url.target;
    exchange->where = absl::StrCat(request.method, exchange->url.tls ? " https://" : " http://",
                                   exchange->url.HostHeader(), target.substr(0, target.find('?')));
    absl::Status valid = IsToken(request.method)
                             ? CheckHeaders(request.headers)
                             : absl::InvalidArgumentError("the method is not a word");
    if (!valid.ok()) return Finish(exchange, valid);
    if (stopping_) return Finish(exchange, absl::CancelledError("the client was shut down"));
    exchange->deadline.expires_after(Seconds(request.timeout_s));
    exchange->deadline.async_wait([this, exchange](boost::system::error_code error) {
      if (error || exchange->finished) return;
      Finish(exchange,
             absl::DeadlineExceededError(absl::StrCat(exchange->where, ": no answer within ",
                                                      exchange->request.timeout_s, " s")));
    });
    asio::co_spawn(io_, Run(exchange), asio::detached);
  }

  // Calls `done`. The coroutine may still be inside an operation that can't be interrupted (a name look-up); it sees
  // `finished` when it comes back.
  void Finish(ExchangePtr exchange, absl::StatusOr<HttpResponse> result) {
    if (exchange->finished) return;
    exchange->finished = true;
    exchanges_.erase(exchange->id);
    exchange->deadline.cancel();
    exchange->delay.cancel();
    if (exchange->connection != nullptr) exchange->connection->Close();
    exchange->done(std::move(result));
    exchange->done = nullptr;
  }

  asio::awaitable<void> Run(ExchangePtr exchange) {
    const HttpRetry& retry = exchange->request.retry;
    for (int attempt = 1;; ++attempt) {
      absl::StatusOr<HttpResponse> result = co_await Attempt(exchange);
      if (exchange->finished) co_return;
      if (attempt >= retry.max_attempts || !IsWorthAnotherTry(result)) {
        if (result.ok()) result->num_attempts = attempt;
        Finish(exchange, std::move(result));
        co_return;
      }
      exchange->delay.expires_after(Seconds(Delay(retry, attempt, result)));
      boost::system::error_code ignored;
      co_await exchange->delay.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      if (exchange->finished) co_return;
    }
  }

  double Delay(const HttpRetry& retry, int attempt, const absl::StatusOr<HttpResponse>& result) {
    double delay = retry.first_delay_s * static_cast<double>(1ull << std::min(attempt - 1, 30));
    delay *= std::uniform_real_distribution<double>(1.0, 1.5)(jitter_);
    double asked = 0.0;
    if (result.ok() && absl::SimpleAtod(std::string(result->Header("Retry-After")), &asked)) {
      delay = std::max(delay, asked);
    }
    return std::min(delay, retry.max_delay_s);
  }

  asio::awaitable<absl::StatusOr<HttpResponse>> Attempt(ExchangePtr exchange) {
    const HttpUrl& url = exchange->url;
    const std::string origin = absl::StrCat(url.tls ? "https://" : "http://", url.HostHeader());
    exchange->connection = TakeIdle(origin);
    if (exchange->connection == nullptr) {
      exchange->connection = std::make_shared<HttpConnection>(io_, options_.ca_file);
      absl::Status connected = co_await exchange->connection->Connect(url);
      if (!connected.ok()) co_return Annotate(*exchange, connected);
    }
    if (exchange->finished) co_return absl::CancelledError("");
    http::request<http::string_body> request = MakeRequest(*exchange);
    http::response_parser<http::string_body> parser;
    // The field limit of Beast (8 KiB of headers) stays.
    parser.body_limit(exchange->request.max_response_bytes);
    if (request.method() == http::verb::head) parser.skip(true);
    absl::Status status = co_await exchange->connection->RoundTrip(request, parser);
    if (!status.ok()) co_return Annotate(*exchange, status);
    if (parser.keep_alive()) PutIdle(origin, std::exchange(exchange->connection, nullptr));
    exchange->connection = nullptr;
    co_return TakeResponse(parser);
  }

  static absl::Status Annotate(const Exchange& exchange, const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(exchange.where, ": ", status.message()));
  }

  static http::request<http::string_body> MakeRequest(const Exchange& exchange) {
    const HttpRequest& from = exchange.request;
    http::request<http::string_body> request;
    request.version(11);
    request.method_string(from.method);
    request.target(exchange.url.target);
    request.set(http::field::host, exchange.url.HostHeader());
    request.set(http::field::user_agent, "rft");
    request.set(http::field::accept, "application/json, */*");
    if (!from.body.empty()) request.set(http::field::content_type, "application/json");
    for (const auto& [name, value] : from.headers) request.set(name, value);
    request.body() = from.body;
    if (!from.body.empty() || from.method == "POST" || from.method == "PUT") {
      request.content_length(from.body.size());
    }
    return request;
  }

  std::shared_ptr<HttpConnection> TakeIdle(const std::string& origin) {
    const Clock::time_point oldest = Clock::now() - Seconds(options_.max_idle_s);
    idle_.remove_if([&](const Idle& idle) { return idle.since < oldest; });
    for (auto it = idle_.begin(); it != idle_.end();) {
      if (it->origin != origin) {
        ++it;
        continue;
      }
      std::shared_ptr<HttpConnection> connection = std::move(it->connection);
      it = idle_.erase(it);
      if (connection->IsIdle()) return connection;  // else the server has closed it meanwhile
    }
    return nullptr;
  }

  void PutIdle(const std::string& origin, std::shared_ptr<HttpConnection> connection) {
    if (stopping_ || options_.max_idle_connections <= 0) return;
    if (idle_.size() >= static_cast<size_t>(options_.max_idle_connections)) idle_.pop_front();
    idle_.push_back({origin, Clock::now(), std::move(connection)});
  }

  const HttpClientOptions options_;
  std::atomic<uint64_t> next_id_{1};
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  // I/O thread only.
  std::map<uint64_t, ExchangePtr> exchanges_;
  std::list<Idle> idle_;  // oldest first
  std::minstd_rand jitter_{std::random_device{}()};
  bool stopping_ = false;

  std::thread thread_;
};

HttpClient::HttpClient(const HttpClientOptions& options) : impl_(std::make_unique<Impl>(options)) {}
HttpClient::~HttpClient() = default;

uint64_t HttpClient::SendAsync(HttpRequest request, Done done) {
  return impl_->Start(std::move(request), std::move(done));
}

void HttpClient::Cancel(uint64_t id) { impl_->Cancel(id); }

absl::StatusOr<HttpResponse> HttpClient::Send(HttpRequest request) {
  std::promise<absl::StatusOr<HttpResponse>> promise;
  SendAsync(std::move(request), [&promise](absl::StatusOr<HttpResponse> result) {
    promise.set_value(std::move(result));
  });
  return promise.get_future().get();
}

std::string_view HttpResponse::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (absl::EqualsIgnoreCase(key, absl::string_view(name.data(), name.size()))) return value;
  }
  return "";
}

absl::Status HttpStatus(const HttpResponse& response) {
  if (response.ok()) return absl::OkStatus();
  const auto code = [&] {
    switch (response.status) {
      case 400:
      case 422:
        return absl::StatusCode::kInvalidArgument;
      case 401:
        return absl::StatusCode::kUnauthenticated;
      case 403:
        return absl::StatusCode::kPermissionDenied;
      case 404:
        return absl::StatusCode::kNotFound;
      case 408:
      case 504:
        return absl::StatusCode::kDeadlineExceeded;
      case 409:
        return absl::StatusCode::kAborted;
      case 429:
        return absl::StatusCode::kResourceExhausted;
      default:
        return response.status >= 500 ? absl::StatusCode::kUnavailable
                                      : absl::StatusCode::kFailedPrecondition;
    }
  }();
  constexpr size_t kShown = 300;
  return absl::Status(
      code, absl::StrCat("HTTP ", response.status, ": ",
                         response.body.empty() ? "(empty)" : response.body.substr(0, kShown),
                         response.body.size() > kShown ? "..." : ""));
}

}  // namespace rft
