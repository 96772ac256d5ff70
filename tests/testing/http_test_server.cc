#include "tests/testing/http_test_server.h"

#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "absl/strings/ascii.h"

namespace rft::testing {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Error = boost::system::error_code;
using tcp = asio::ip::tcp;

}  // namespace

struct HttpTestServer::State {
  Handler handler;
  std::unique_ptr<asio::ssl::context> tls;
  asio::io_context io;
  tcp::acceptor acceptor{io};
  std::atomic<int> num_requests{0};
  std::atomic<int> num_connections{0};
  std::mutex mutex;
  std::condition_variable stop_changed;
  bool stopping = false;
  std::set<int> open;  // descriptors, shut down at the end to wake their threads
  std::vector<std::thread> threads;
  std::thread accept_thread;

  void Accept() {
    while (true) {
      Error error;
      tcp::socket socket(io);
      acceptor.accept(socket, error);
      std::lock_guard<std::mutex> lock(mutex);
      if (stopping) return;
      if (error) continue;
      ++num_connections;
      open.insert(socket.native_handle());
      threads.emplace_back([this, socket = std::move(socket)]() mutable { Serve(socket); });
    }
  }

  void Serve(tcp::socket& socket) {
    const int descriptor = socket.native_handle();
    Error error;
    if (tls != nullptr) {
      asio::ssl::stream<tcp::socket&> stream(socket, *tls);
      stream.handshake(asio::ssl::stream_base::server, error);
      if (!error) Talk(stream);
    } else {
      Talk(socket);
    }
    std::lock_guard<std::mutex> lock(mutex);
    open.erase(descriptor);
    socket.close(error);
  }

  template <typename Stream>
  void Talk(Stream& stream) {
    boost::beast::flat_buffer buffer;
    Error error;
    while (true) {
      http::request_parser<http::string_body> parser;
      parser.body_limit(size_t{64} << 20);
      http::read(stream, buffer, parser, error);
      if (error) return;
      const TestReply reply = handler(Read(parser.get()));
      if (!Wait(reply.delay_s)) return;
      if (reply.drop) return;
      if (!reply.raw.empty()) {
        asio::write(stream, asio::buffer(reply.raw), error);
        Wait(reply.hold_s);
        return;
      }
      http::response<http::string_body> response;
      response.version(11);
      response.result(static_cast<unsigned>(reply.status));
      for (const auto& [name, value] : reply.headers) response.set(name, value);
      response.body() = reply.body;
      response.prepare_payload();
      response.keep_alive(true);
      http::write(stream, response, error);
      if (error || reply.close_after) return;
    }
  }

  // False: the server ends.
  bool Wait(double seconds) {
    std::unique_lock<std::mutex> lock(mutex);
    return !stop_changed.wait_for(lock, std::chrono::duration<double>(seconds),
                                  [this] { return stopping; });
  }

  TestRequest Read(const http::request<http::string_body>& message) {
    TestRequest request;
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    for (const auto& field : message) {
      request.headers[absl::AsciiStrToLower(std::string(field.name_string()))] =
          std::string(field.value());
    }
    request.body = message.body();
    request.index = num_requests++;
    return request;
  }
};

HttpTestServer::HttpTestServer(Handler handler, std::string certificate, std::string key)
    : state_(std::make_unique<State>()) {
  state_->handler = std::move(handler);
  if (!certificate.empty()) {
    state_->tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    state_->tls->use_certificate_chain(asio::buffer(certificate));
    state_->tls->use_private_key(asio::buffer(key), asio::ssl::context::pem);
  }
  const tcp::endpoint any_port(asio::ip::address_v4::loopback(), 0);
  state_->acceptor.open(any_port.protocol());
  state_->acceptor.bind(any_port);
  state_->acceptor.listen();
  state_->accept_thread = std::thread([state = state_.get()] { state->Accept(); });
}

HttpTestServer::~HttpTestServer() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
    for (const int descriptor : state_->open) shutdown(descriptor, SHUT_RDWR);
  }
  state_->stop_changed.notify_all();
  shutdown(state_->acceptor.native_handle(), SHUT_RDWR);  // wakes accept
  state_->accept_thread.join();
  for (std::thread& thread : state_->threads) thread.join();
}

uint16_t HttpTestServer::port() const { return state_->acceptor.local_endpoint().port(); }

std::string HttpTestServer::Url(const std::string& target) const {
  return (state_->tls != nullptr ? "https://127.0.0.1:" : "http://127.0.0.1:") +
         std::to_string(port()) + target;
}

int HttpTestServer::num_requests() const { return state_->num_requests; }
int HttpTestServer::num_connections() const { return state_->num_connections; }

}  // namespace rft::testing
