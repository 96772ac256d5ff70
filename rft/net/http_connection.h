// One TCP or TLS connection of HttpClient, on its I/O thread. Private to rft/net.
// Errors: kUnavailable (can't connect, lost), kResourceExhausted (body or headers too large), kDataLoss (not HTTP).
#pragma once

#include <memory>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>

#include "absl/status/status.h"
#include "rft/net/http_url.h"

namespace rft {

class HttpConnection {
 public:
  HttpConnection(boost::asio::io_context& io, std::string ca_file);

  // Once, first.
  boost::asio::awaitable<absl::Status> Connect(const HttpUrl& url);

  // Sends the request and reads the response into `parser`, both of which outlive the call.
  boost::asio::awaitable<absl::Status> RoundTrip(
      boost::beast::http::request<boost::beast::http::string_body>& request,
      boost::beast::http::response_parser<boost::beast::http::string_body>& parser);

  // Whether the peer has neither closed the connection nor sent anything unasked.
  bool IsIdle();

  // Ends what is in progress with an error.
  void Close();

 private:
  boost::beast::tcp_stream& Tcp();

  const std::string ca_file_;
  bool closed_ = false;
  boost::asio::ip::tcp::resolver resolver_;
  std::unique_ptr<boost::beast::tcp_stream> plain_;
  std::unique_ptr<boost::asio::ssl::context> tls_context_;
  std::unique_ptr<boost::beast::ssl_stream<boost::beast::tcp_stream>> tls_;  // null: http
  boost::beast::flat_buffer buffer_;
};

}  // namespace rft
