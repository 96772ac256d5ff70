#include "rft/net/http_url.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace rft {
namespace {

absl::Status Refused(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(text.substr(0, 200)), "\": ", std::string(why)));
}

bool IsHostCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_';
}

}  // namespace

std::string HttpUrl::HostHeader() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? 443 : 80) ? name : absl::StrCat(name, ":", port);
}

absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view text) {
  for (const unsigned char c : text) {
    if (c <= 0x20 || c >= 0x7f) {
      return Refused(text, "an address holds no white space, control or non-ASCII characters");
    }
  }
  HttpUrl url;
  std::string_view rest = text;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.starts_with("https://")) {
    url.tls = true;
    rest.remove_prefix(8);
  } else {
    return Refused(text, "an address starts with http:// or https://");
  }
  if (rest.find('#') != std::string_view::npos) return Refused(text, "a #fragment is not sent");
  const size_t path = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, path);
  url.target = path == std::string_view::npos ? "/" : std::string(rest.substr(path));
  if (url.target[0] == '?') url.target = absl::StrCat("/", url.target);
  if (authority.find('@') != std::string_view::npos) {
    return Refused(text, "user:password@ is not supported; send an Authorization header");
  }

  std::string_view port;
  bool has_port = false;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return Refused(text, "\"[\" without \"]\"");
    url.host = std::string(authority.substr(1, end - 1));
    authority.remove_prefix(end + 1);
    has_port = authority.starts_with(':');
    if (!authority.empty() && !has_port) return Refused(text, "what follows \"]\" is not a port");
    port = authority.substr(has_port ? 1 : 0);
    if (url.host.find_first_not_of("0123456789abcdefABCDEF:.") != std::string::npos) {
      return Refused(text, "not an IPv6 address in brackets");
    }
  } else {
    const size_t colon = authority.find(':');
    has_port = colon != std::string_view::npos;
    url.host = std::string(authority.substr(0, colon));
    if (has_port) port = authority.substr(colon + 1);
    if (!std::all_of(url.host.begin(), url.host.end(), IsHostCharacter)) {
      return Refused(text, "the host name holds a character that host names don't have");
    }
  }
  if (url.host.empty()) return Refused(text, "no host");
  absl::AsciiStrToLower(&url.host);
  uint32_t number = url.tls ? 443 : 80;
  if (has_port && (!absl::SimpleAtoi(std::string(port), &number) || number == 0 || number > 65535 ||
                   !absl::ascii_isdigit(static_cast<unsigned char>(port[0])))) {
    return Refused(text, "the port is not a number between 1 and 65535");
  }
  url.port = static_cast<uint16_t>(number);
  return url;
}

}  // namespace rft
