// `rft serve`: the OpenAI-compatible service behind the HTTP server.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "rft/serve/http_server.h"
#include "rft/serve/openai_service.h"

namespace rft::serve {

class Server {
 public:
  // Listens when it returns. kInvalidArgument: also an address that others can reach without an API key configured.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const HttpOptions& http,
                                                       const ServiceOptions& service,
                                                       ServiceParts parts);
  // Ends all requests and connections. Idempotent; the destructor calls it.
  void Stop() { http_->Stop(); }
  uint16_t port() const { return http_->port(); }
  int64_t num_connections() const { return http_->num_connections(); }

 private:
  Server() = default;
  std::unique_ptr<HttpService> service_;
  std::unique_ptr<HttpServer> http_;  // stops before the service goes
};

}  // namespace rft::serve
