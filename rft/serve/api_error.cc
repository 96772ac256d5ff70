#include "rft/serve/api_error.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "rft/core/json_writer.h"

namespace rft::serve {
namespace {

const char* TypeOf(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

const char* CodeOf(int status) {
  if (status == 401) return "invalid_api_key";
  if (status == 404) return "not_found";
  if (status == 429) return "queue_full";
  return status < 500 ? "invalid_request_error" : "server_error";
}

// "messages[2].content" of "messages[2].content: is empty"; empty if the message does not begin with a field.
std::string_view FieldOf(std::string_view message) {
  const size_t colon = message.find(": ");
  if (colon == message.npos) return {};
  const std::string_view field = message.substr(0, colon);
  const bool plain = std::all_of(field.begin(), field.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '[' || c == ']' || c == '-';
  });
  return plain ? field : std::string_view();
}

}  // namespace

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

std::string ErrorJson(int http_status, const std::string& message) {
  JsonWriter w;
  w.BeginObject();
  w.Key("error");
  w.BeginObject();
  w.Key("message");
  w.String(message);
  w.Key("type");
  w.String(TypeOf(http_status));
  w.Key("param");
  const std::string_view field = http_status == 400 ? FieldOf(message) : std::string_view();
  if (field.empty())
    w.Null();
  else
    w.String(field);
  w.Key("code");
  w.String(CodeOf(http_status));
  w.EndObject();
  w.EndObject();
  return w.Take();
}

HttpReply ErrorReply(int http_status, const std::string& message) {
  HttpReply reply{.status = http_status, .body = ErrorJson(http_status, message)};
  if (http_status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (http_status == 429 || http_status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

HttpReply ErrorReply(const absl::Status& status) {
  return ErrorReply(HttpStatusOf(status), std::string(status.message()));
}

}  // namespace rft::serve
