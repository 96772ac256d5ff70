#include "rft/serve/http_connection.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <string_view>
#include <utility>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "rft/serve/api_error.h"

namespace rft::serve {
namespace {

namespace http = beast::http;

constexpr double kLingerDeadlineS = 2.0;

std::chrono::milliseconds Seconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
}

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// Worth echoing: short, and nothing that could end a header line.
bool IsPlainToken(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

std::shared_ptr<HttpRequest> RequestOf(const http::request_header<>& header) {
  auto request = std::make_shared<HttpRequest>();
  request->method = std::string(View(header.method_string()));
  const std::string_view target = View(header.target());
  const size_t mark = target.find('?');
  request->path = std::string(target.substr(0, mark));
  if (mark != target.npos) request->query = std::string(target.substr(mark + 1));
  for (const auto& field : header) {
    std::string name(View(field.name_string()));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    request->headers.emplace_back(std::move(name), std::string(View(field.value())));
  }
  return request;
}

}  // namespace

// What the service holds on to. Hops to the I/O thread; knows its exchange by number, so that a late answer to an earlier
// request can't reach the next one.
class ConnectionExchange : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<HttpConnection> connection, uint64_t id)
      : connection_(std::move(connection)), id_(id) {}
  ~ConnectionExchange() override {
    Run([c = connection_, id = id_] {
      if (c->IsOpen(id))
        c->Answer(id, ErrorReply(500, "the request was dropped without an answer"));
    });
  }
  void Reply(HttpReply reply) override {
    Run([c = connection_, id = id_, reply = std::move(reply)] { c->Answer(id, reply); });
  }
  void BeginEvents() override {
    Run([c = connection_, id = id_] { c->BeginEvents(id); });
  }
  void WriteEvents(std::string text) override {
    Run([c = connection_, id = id_, text = std::move(text)]() mutable {
      c->WriteEvents(id, std::move(text));
    });
  }
  void EndEvents() override {
    Run([c = connection_, id = id_] { c->EndEvents(id); });
  }
  void OnGone(std::function<void()> callback) override {
    Run([c = connection_, id = id_, callback = std::move(callback)]() mutable {
      c->OnGone(id, std::move(callback));
    });
  }
  void Post(std::function<void()> work) override {
    if (!connection_->shared_->stopping) asio::post(connection_->shared_->io, std::move(work));
  }

 private:
  template <typename F>
  void Run(F&& work) {
    if (!connection_->shared_->stopping)
      asio::dispatch(connection_->shared_->io, std::forward<F>(work));
  }
  const std::shared_ptr<HttpConnection> connection_;
  const uint64_t id_;
};

HttpConnection::HttpConnection(std::shared_ptr<HttpShared> shared, asio::ip::tcp::socket socket)
    : shared_(std::move(shared)), stream_(std::move(socket)) {
  in_all_ = shared_->all.insert(shared_->all.end(), this);
  ++shared_->num_connections;
}

// A last holder on another thread finds it closed: an open one is held by what it waits for on the I/O thread.
HttpConnection::~HttpConnection() { Close(); }

void HttpConnection::SetWaiting(bool waiting) {
  if (waiting == is_waiting_) return;
  is_waiting_ = waiting;
  if (waiting)
    in_waiting_ = shared_->waiting.insert(shared_->waiting.end(), this);
  else
    shared_->waiting.erase(in_waiting_);
}

void HttpConnection::ReleaseBody() {
  shared_->bodies_bytes -= body_bytes_;
  body_bytes_ = 0;
}

void HttpConnection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  SetWaiting(false);
  ReleaseBody();
  shared_->all.erase(in_all_);
  --shared_->num_connections;
  stream_.close();
  if (auto gone = std::exchange(gone_, nullptr)) gone();
}

void HttpConnection::ReadHead() {
  state_ = State::kReading;
  request_ = nullptr;
  ReleaseBody();
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_->options.max_header_bytes));
  parser_->body_limit(boost::none);  // looked at in OnHead
  SetWaiting(true);
  stream_.expires_after(Seconds(shared_->options.header_deadline_s));
  http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](Error error, size_t) { self->OnHead(error); });
}

void HttpConnection::OnHead(Error error) {
  if (state_ == State::kClosed) return;
  if (error == http::error::header_limit)
    return RefuseAndClose(431, absl::StrCat("the header is longer than ",
                                            shared_->options.max_header_bytes, " bytes"));
  if (error.category() == http::make_error_code(http::error::end_of_stream).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message)
    return RefuseAndClose(400, absl::StrCat("not HTTP/1.1: ", error.message()));
  if (error) return Close();  // gone, or too slow

  const auto& header = parser_->get();
  keep_alive_ = header.keep_alive();
  http11_ = header.version() >= 11;
  request_ = RequestOf(header.base());
  Error no_peer;
  request_->peer = stream_.socket().remote_endpoint(no_peer).address().to_string();
  const HttpOptions& options = shared_->options;
  const auto length = parser_->content_length();
  if (length && *length > static_cast<uint64_t>(options.max_body_bytes))
    return RefuseAndClose(413, absl::StrCat("the body has ", *length, " bytes; at most ",
                                            options.max_body_bytes, " are read"));
  if (auto refusal = shared_->service.Refuse(*request_)) return RefuseAndClose(*refusal);
  body_bytes_ =
      length ? static_cast<int64_t>(*length) : (parser_->chunked() ? options.max_body_bytes : 0);
  shared_->bodies_bytes += body_bytes_;
  if (shared_->bodies_bytes > options.max_bodies_bytes)
    return RefuseAndClose(503, "too many large requests are being worked on; try again later");
  parser_->body_limit(static_cast<uint64_t>(options.max_body_bytes));
  if (!parser_->is_done() && request_->Header("expect") == "100-continue") {
    asio::async_write(stream_, asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25),
                      [self = shared_from_this()](Error write_error, size_t) {
                        if (write_error) return self->Close();
                        self->ReadBody();
                      });
    return;
  }
  ReadBody();
}

void HttpConnection::ReadBody() {
  if (state_ == State::kClosed) return;
  stream_.expires_after(Seconds(shared_->options.body_deadline_s));
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](Error error, size_t) { self->OnBody(error); });
}

void HttpConnection::OnBody(Error error) {
  if (state_ == State::kClosed) return;
  if (error == http::error::body_limit)
    return RefuseAndClose(
        413, absl::StrCat("the body is longer than ", shared_->options.max_body_bytes, " bytes"));
  if (error == beast::error::timeout || error == asio::error::operation_aborted) return Close();
  if (error == http::error::bad_chunk || error == http::error::bad_chunk_extension)
    return RefuseAndClose(400, absl::StrCat("not a chunked body: ", error.message()));
  if (error) return Close();
  request_->body = std::move(parser_->get().body());
  const auto actual = static_cast<int64_t>(request_->body.size());
  shared_->bodies_bytes += actual - body_bytes_;
  body_bytes_ = actual;
  Dispatch();
}

void HttpConnection::Dispatch() {
  SetWaiting(false);
  state_ = State::kWorking;
  stream_.expires_never();
  const uint64_t id = ++exchange_id_;
  auto exchange = std::make_shared<ConnectionExchange>(shared_from_this(), id);
  asio::post(shared_->workers,
             [shared = shared_, request = request_, exchange = std::move(exchange)]() mutable {
               shared->service.Handle(std::move(request), std::move(exchange));
             });
  Watch();
}

void HttpConnection::Watch() {
  if (buffer_.size() > 0) return;  // the next request is here already; its client has not gone
  stream_.socket().async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this(),
                                                                 id = exchange_id_](Error error) {
    if (error || id != self->exchange_id_) return;
    if (self->state_ != State::kWorking && self->state_ != State::kStreaming) return;
    char byte;
    const auto got =
        recv(self->stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    const bool nothing_yet = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (nothing_yet) return self->Watch();
    if (got <= 0) self->Close();  // more bytes: the next request, read after this one
  });
}

std::string HttpConnection::Head(const HttpReply& reply, bool chunked) const {
  std::string head = absl::StrCat(
      "HTTP/1.1 ", reply.status, " ",
      std::string(View(http::obsolete_reason(static_cast<http::status>(reply.status)))),
      "\r\nServer: rft\r\nContent-Type: ", reply.content_type, "\r\n");
  for (const auto& [name, value] : reply.headers) absl::StrAppend(&head, name, ": ", value, "\r\n");
  if (request_) {
    const std::string_view request_id = request_->Header("x-request-id");
    if (IsPlainToken(request_id))
      absl::StrAppend(&head, "X-Request-Id: ", std::string(request_id), "\r\n");
  }
  if (chunked)
    head += "Transfer-Encoding: chunked\r\n";
  else if (reply.content_type != "text/event-stream")
    absl::StrAppend(&head, "Content-Length: ", reply.body.size(), "\r\n");
  absl::StrAppend(&head, "Connection: ", keep_alive_ ? "keep-alive" : "close", "\r\n\r\n");
  return head;
}

void HttpConnection::Answer(uint64_t id, const HttpReply& reply) {
  if (!IsOpen(id)) return;
  state_ = State::kFlushing;
  gone_ = nullptr;
  Queue(Head(reply, false) + reply.body);
}

void HttpConnection::BeginEvents(uint64_t id) {
  if (!IsOpen(id)) return;
  state_ = State::kStreaming;
  if (!http11_) keep_alive_ = false;
  Queue(Head({.content_type = "text/event-stream", .headers = {{"Cache-Control", "no-cache"}}},
             http11_));
}

void HttpConnection::WriteEvents(uint64_t id, std::string text) {
  if (id != exchange_id_ || state_ != State::kStreaming || text.empty()) return;
  if (static_cast<int64_t>(queued_.size() + text.size()) > shared_->options.max_backlog_bytes)
    return Close();  // the client does not read
  Queue(http11_ ? absl::StrCat(absl::Hex(text.size()), "\r\n", text, "\r\n") : std::move(text));
}

void HttpConnection::EndEvents(uint64_t id) {
  if (id != exchange_id_ || state_ != State::kStreaming) return;
  state_ = State::kFlushing;
  gone_ = nullptr;
  if (http11_) return Queue("0\r\n\r\n");
  if (!is_writing_) AnswerWritten();
}

void HttpConnection::OnGone(uint64_t id, std::function<void()> callback) {
  if (id == exchange_id_ && state_ == State::kFlushing) return;  // answered
  if (id != exchange_id_ || state_ == State::kClosed || state_ == State::kReading)
    return callback();
  gone_ = std::move(callback);
}

void HttpConnection::RefuseAndClose(int status, const std::string& message) {
  RefuseAndClose(ErrorReply(status, message));
}

void HttpConnection::RefuseAndClose(const HttpReply& reply) {
  SetWaiting(false);
  ReleaseBody();
  // Nothing unread is left after a bodiless request: the connection may go on.
  const bool reusable = request_ != nullptr && parser_->is_done() && keep_alive_;
  keep_alive_ = reusable;
  close_after_write_ = !reusable;
  state_ = State::kFlushing;
  Queue(Head(reply, false) + reply.body);
}

void HttpConnection::Queue(std::string text) {
  if (queued_.empty())
    queued_ = std::move(text);
  else
    queued_ += text;
  if (!is_writing_) Write();
}

void HttpConnection::Write() {
  is_writing_ = true;
  writing_ = std::exchange(queued_, {});
  stream_.expires_after(Seconds(shared_->options.write_deadline_s *
                                (1 + static_cast<double>(writing_.size() >> 20))));
  asio::async_write(stream_, asio::buffer(writing_),
                    [self = shared_from_this()](Error error, size_t) {
                      self->is_writing_ = false;
                      if (self->state_ == State::kClosed) return;
                      if (error) return self->Close();
                      if (!self->queued_.empty()) return self->Write();
                      self->stream_.expires_never();
                      if (self->state_ == State::kFlushing) self->AnswerWritten();
                    });
}

void HttpConnection::AnswerWritten() {
  if (keep_alive_) return ReadHead();
  Error ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (!close_after_write_) return Close();
  stream_.expires_after(Seconds(kLingerDeadlineS));
  Linger();
}

void HttpConnection::Linger() {
  stream_.async_read_some(asio::buffer(drain_), [self = shared_from_this()](Error error, size_t) {
    if (self->state_ == State::kClosed) return;
    if (error) return self->Close();
    self->Linger();
  });
}

}  // namespace rft::serve
