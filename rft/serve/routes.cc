#include "rft/serve/routes.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace rft::serve {

absl::StatusOr<json::object> ReadBody(const HttpRequest& request, const ServeLimits& limits,
                                      bool optional) {
  if (optional && request.body.empty()) return json::object();
  JsonLimits json_limits;
  json_limits.max_depth = limits.max_json_depth;
  auto value = ParseJson(request.body, json_limits);
  if (!value.ok())
    return absl::InvalidArgumentError(absl::StrCat("the body: ", value.status().message()));
  if (!value->is_object()) return absl::InvalidArgumentError("the body: must be a JSON object");
  return std::move(value->get_object());
}

}  // namespace rft::serve
