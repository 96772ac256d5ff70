// http:// and https:// addresses, taken apart. Strict: what is not plainly one of them is refused, so that nothing can be
// smuggled into the request line or to another host.
// Thread safety: free functions without state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace rft {

struct HttpUrl {
  bool tls = false;
  std::string host;  // lower case; an IPv6 address without its brackets
  uint16_t port = 0;
  std::string target;  // path and query, "/" at least

  // What the Host header says: "example.org", "127.0.0.1:8000", "[::1]:8000".
  std::string HostHeader() const;
};

// kInvalidArgument, naming the mistake: another scheme, no host, user:password@, a fragment, white space, control or
// non-ASCII characters, a port outside 1..65535.
absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view text);

}  // namespace rft
