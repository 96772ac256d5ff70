// An HTTP/1.1 server over Boost.Beast: limits first, then bytes, then the service. One I/O thread, a few workers.
//
//   accept ─▶ header (size, deadline) ─▶ service.Refuse ─▶ body (size, deadline, budget) ─▶ service.Handle on a worker
//     ▲                                                                                         │ any thread, any time
//     └──────────── keep-alive ◀── write (deadline, bounded backlog) ◀── Exchange::Reply / WriteEvents
//
// A client that stops sending, stops reading or goes away costs one connection until its deadline; when all connections
// are taken, the one that has waited longest for its request makes room. The peer is watched while its request is worked
// on: Exchange::OnGone tells.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "rft/serve/http_exchange.h"

namespace rft::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address, not a name
  uint16_t port = 0;               // 0: any free one
  int num_workers = 2;
  int64_t max_connections = 512;
  int64_t max_header_bytes = 16 << 10;
  int64_t max_body_bytes = 16 << 20;
  int64_t max_bodies_bytes = 256 << 20;  // bodies of all requests not yet answered
  int64_t max_backlog_bytes = 8 << 20;   // of a stream that its client does not read
  double header_deadline_s = 30.0;  // from the first wait for a request to the end of its header
  double body_deadline_s = 60.0;
  double write_deadline_s = 60.0;  // per MiB
};

class HttpServer {
 public:
  // Listens when it returns. kInvalidArgument: not an address, bad options; kFailedPrecondition: the port is taken (says
  // which). `service` must outlive the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                           HttpService& service);
  // Closes all connections (their OnGone callbacks run) and joins all threads. Idempotent; the destructor calls it.
  virtual void Stop() = 0;
  virtual ~HttpServer() = default;
  virtual uint16_t port() const = 0;
  virtual int64_t num_connections() const = 0;
};

}  // namespace rft::serve
