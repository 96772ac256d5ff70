// OpenAI's shape of an error: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "rft/serve/http_exchange.h"

namespace rft::serve {

// 400 kInvalidArgument, 404 kNotFound, 429 kResourceExhausted, 503 kFailedPrecondition, 501 kUnimplemented, 504
// kDeadlineExceeded, 403 kPermissionDenied, 409 kAborted, 500 anything else.
int HttpStatusOf(const absl::Status& status);

// {"error": ...} alone. By our convention a message begins with the field it is about ("max_tokens: must be ..."): that
// becomes `param`.
std::string ErrorJson(int http_status, const std::string& message);

HttpReply ErrorReply(int http_status, const std::string& message);
HttpReply ErrorReply(const absl::Status& status);

}  // namespace rft::serve
