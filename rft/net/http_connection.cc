#include "rft/net/http_connection.h"

#include <utility>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Error = boost::system::error_code;

absl::Status Translate(const Error& error, std::string_view what) {
  const std::string message = absl::StrCat(std::string(what), ": ", error.message());
  if (error == http::error::body_limit || error == http::error::header_limit) {
    return absl::ResourceExhaustedError("the response is larger than allowed");
  }
  const bool lost = error == http::error::end_of_stream || error == http::error::partial_message;
  // Beast's other errors mean that what came is not HTTP.
  if (!lost && error.category() == make_error_code(http::error::bad_version).category()) {
    return absl::DataLossError(message);
  }
  return absl::UnavailableError(message);
}

template <typename Stream>
asio::awaitable<absl::Status> Exchange(Stream& stream, beast::flat_buffer& buffer,
                                       http::request<http::string_body>& request,
                                       http::response_parser<http::string_body>& parser) {
  Error error;
  co_await http::async_write(stream, request, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Translate(error, "can't send the request");
  co_await http::async_read(stream, buffer, parser,
                            asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Translate(error, "the connection was lost before the response was complete");
  co_return absl::OkStatus();
}

}  // namespace

HttpConnection::HttpConnection(asio::io_context& io, std::string ca_file)
    : ca_file_(std::move(ca_file)),
      resolver_(io),
      plain_(std::make_unique<beast::tcp_stream>(io)) {}

beast::tcp_stream& HttpConnection::Tcp() {
  return tls_ != nullptr ? beast::get_lowest_layer(*tls_) : *plain_;
}

asio::awaitable<absl::Status> HttpConnection::Connect(const HttpUrl& url) {
  Error error;
  const asio::ip::tcp::resolver::results_type addresses = co_await resolver_.async_resolve(
      url.host, std::to_string(url.port), asio::ip::tcp::resolver::numeric_service,
      asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Translate(error, absl::StrCat("can't find the host \"", url.host, "\""));
  if (closed_) co_return absl::UnavailableError("closed");
  co_await plain_->async_connect(addresses, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Translate(error, "can't connect");
  plain_->socket().set_option(asio::ip::tcp::no_delay(true), error);
  if (!url.tls) co_return absl::OkStatus();

  tls_context_ = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_client);
  tls_context_->set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1, error);
  if (ca_file_.empty()) {
    tls_context_->set_default_verify_paths(error);
  } else {
    tls_context_->load_verify_file(ca_file_, error);
  }
  if (error) co_return Translate(error, absl::StrCat("can't read certificates ", ca_file_));
  tls_context_->set_verify_mode(asio::ssl::verify_peer, error);
  tls_ = std::make_unique<beast::ssl_stream<beast::tcp_stream>>(std::move(*plain_), *tls_context_);
  tls_->set_verify_callback(asio::ssl::host_name_verification(url.host), error);
  SSL_set_tlsext_host_name(tls_->native_handle(), url.host.c_str());
  co_await tls_->async_handshake(asio::ssl::stream_base::client,
                                 asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Translate(error, "TLS handshake");
  co_return absl::OkStatus();
}

asio::awaitable<absl::Status> HttpConnection::RoundTrip(
    http::request<http::string_body>& request, http::response_parser<http::string_body>& parser) {
  if (tls_ != nullptr) co_return co_await Exchange(*tls_, buffer_, request, parser);
  co_return co_await Exchange(*plain_, buffer_, request, parser);
}

bool HttpConnection::IsIdle() {
  if (closed_ || buffer_.size() > 0) return false;
  auto& socket = Tcp().socket();
  Error error;
  socket.non_blocking(true, error);
  if (error) return false;
  char byte;
  socket.receive(asio::buffer(&byte, 1), asio::ip::tcp::socket::message_peek, error);
  return error == asio::error::would_block;
}

void HttpConnection::Close() {
  closed_ = true;
  resolver_.cancel();
  Tcp().close();
}

}  // namespace rft
