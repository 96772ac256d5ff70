#include "rft/serve/http_server.h"

#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/strings/str_cat.h"
#include "rft/serve/http_connection.h"

namespace rft::serve {
namespace {

using asio::ip::tcp;

class BeastServer : public HttpServer {
 public:
  BeastServer(const HttpOptions& options, HttpService& service)
      : shared_(std::make_shared<HttpShared>(options, service)),
        acceptor_(shared_->io),
        retry_(shared_->io) {}
  ~BeastServer() override { Stop(); }

  absl::Status Listen() {
    beast::error_code error;
    const auto address = asio::ip::make_address(shared_->options.host, error);
    if (error)
      return absl::InvalidArgumentError(absl::StrCat("host: '", shared_->options.host,
                                                     "' is not an IP address (127.0.0.1, ::1)"));
    const tcp::endpoint endpoint(address, shared_->options.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(1024, error);
    if (error)
      return absl::FailedPreconditionError(
          absl::StrCat("can't listen on ", shared_->options.host, ":", shared_->options.port, ": ",
                       error.message(), "; choose another port (0: any free one)"));
    port_ = acceptor_.local_endpoint().port();
    Accept();
    io_thread_ = std::thread([this] { shared_->io.run(); });
    return absl::OkStatus();
  }

  void Stop() override {
    if (shared_->stopping.exchange(true)) return;
    asio::post(shared_->io, [this] {  // nothing is left to wait for then, and run() returns
      acceptor_.close();
      retry_.cancel();
      while (!shared_->all.empty()) shared_->all.front()->Close();
    });
    if (io_thread_.joinable()) io_thread_.join();
    shared_->workers.join();
  }

  uint16_t port() const override { return port_; }
  int64_t num_connections() const override { return shared_->num_connections.load(); }

 private:
  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {  // out of file descriptors, say: give others time to close theirs
        retry_.expires_after(std::chrono::milliseconds(50));
        retry_.async_wait([this](beast::error_code cancelled) {
          if (!cancelled) Accept();
        });
        return;
      }
      MakeRoom();
      socket.set_option(tcp::no_delay(true), error);
      if (static_cast<int64_t>(shared_->all.size()) < shared_->options.max_connections)
        std::make_shared<HttpConnection>(shared_, std::move(socket))->Start();
      Accept();
    });
  }

  void MakeRoom() {
    if (static_cast<int64_t>(shared_->all.size()) < shared_->options.max_connections) return;
    if (!shared_->waiting.empty()) shared_->waiting.front()->Close();
  }

  const std::shared_ptr<HttpShared> shared_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  std::thread io_thread_;
  uint16_t port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                              HttpService& service) {
  if (options.num_workers < 1 || options.max_connections < 1 || options.max_header_bytes < 1024 ||
      options.max_body_bytes < 0)
    return absl::InvalidArgumentError(
        "server: num_workers and max_connections must be at least 1, max_header_bytes at least "
        "1024, max_body_bytes at least 0");
  auto server = std::make_unique<BeastServer>(options, service);
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

}  // namespace rft::serve
