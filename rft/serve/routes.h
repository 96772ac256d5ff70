// What the parts of the service register, and what every handler begins with.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rft/io/json.h"
#include "rft/serve/http_exchange.h"
#include "rft/serve/limits.h"

namespace rft::serve {

using Request = std::shared_ptr<const HttpRequest>;
using Client = std::shared_ptr<Exchange>;

struct Route {
  std::string method;  // "GET"
  // Answers `client`, now or later; an error that is returned is answered by the caller.
  std::function<absl::Status(const Request&, const Client&)> handler;
  bool is_public = false;  // needs no key
};
using Routes = std::map<std::string, Route, std::less<>>;  // by path

template <typename Service>
using Handler = absl::Status (Service::*)(const Request&, const Client&);

// `service` must outlive `routes`.
template <typename Service>
void AddRoute(Routes& routes, Service& service, const char* method,
              std::initializer_list<const char*> paths, Handler<Service> handler,
              bool is_public = false) {
  for (const char* path : paths)
    routes[path] = {method,
                    [&service, handler](const Request& request, const Client& client) {
                      return (service.*handler)(request, client);
                    },
                    is_public};
}

// The request's body, a JSON object within the limits; {} for an empty one if it is optional. kInvalidArgument.
absl::StatusOr<json::object> ReadBody(const HttpRequest& request, const ServeLimits& limits,
                                      bool optional = false);

}  // namespace rft::serve
