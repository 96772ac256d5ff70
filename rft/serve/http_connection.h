// One client's connection: reads a request, hands it to the service, writes the answer, again. Private to rft/serve.
// Everything runs on the I/O thread except the Exchange's methods, which hop there.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "rft/serve/http_exchange.h"
#include "rft/serve/http_server.h"

namespace rft::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;

class HttpConnection;

// What the connections of one server share. Touched on the I/O thread only. Kept alive by every connection and exchange.
struct HttpShared {
  HttpShared(const HttpOptions& options, HttpService& service)
      : options(options), service(service), workers(static_cast<size_t>(options.num_workers)) {}
  const HttpOptions options;
  HttpService& service;
  asio::io_context io{1};
  asio::thread_pool workers;
  std::list<HttpConnection*> waiting;  // connections without a complete request, oldest wait first
  std::list<HttpConnection*> all;
  int64_t bodies_bytes = 0;
  // Any thread. Once stopping, nothing is queued on `io` any more: nobody would run it.
  std::atomic<bool> stopping{false};
  std::atomic<int64_t> num_connections{0};
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(std::shared_ptr<HttpShared> shared, asio::ip::tcp::socket socket);
  ~HttpConnection();
  void Start() { ReadHead(); }
  // Ends it now, whatever it is doing.
  void Close();

 private:
  friend class ConnectionExchange;
  using Error = beast::error_code;

  void ReadHead();
  void OnHead(Error error);
  void ReadBody();
  void OnBody(Error error);
  void Dispatch();
  void Watch();  // notices that the client goes away while its request is worked on

  // Of the exchange under way; `id` tells it from earlier ones.
  bool IsOpen(uint64_t id) const { return id == exchange_id_ && state_ == State::kWorking; }
  void Answer(uint64_t id, const HttpReply& reply);
  void BeginEvents(uint64_t id);
  void WriteEvents(uint64_t id, std::string text);
  void EndEvents(uint64_t id);
  void OnGone(uint64_t id, std::function<void()> callback);

  void RefuseAndClose(const HttpReply& reply);
  void RefuseAndClose(int status, const std::string& message);
  std::string Head(const HttpReply& reply, bool chunked) const;
  void Queue(std::string text);  // appends to the output and writes what is not being written yet
  void Write();
  void AnswerWritten();
  void Linger();  // lets the client read the refusal before the connection is torn down
  void SetWaiting(bool waiting);
  void ReleaseBody();

  const std::shared_ptr<HttpShared> shared_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<beast::http::request_parser<beast::http::string_body>> parser_;
  std::shared_ptr<HttpRequest> request_;
  std::list<HttpConnection*>::iterator in_all_, in_waiting_;
  bool is_waiting_ = false;
  int64_t body_bytes_ = 0;  // its part of HttpShared::bodies_bytes

  uint64_t exchange_id_ = 0;
  enum class State { kReading, kWorking, kStreaming, kFlushing, kClosed } state_ = State::kReading;
  bool keep_alive_ = true, http11_ = true;
  std::function<void()> gone_;
  std::string queued_, writing_;
  bool is_writing_ = false, close_after_write_ = false;
  char drain_[4096];
};

}  // namespace rft::serve
