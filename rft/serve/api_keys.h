// Who may use the server. Keys are compared by their SHA-256 digests, all of them, in constant time.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rft/serve/http_exchange.h"

namespace rft::serve {

// Immutable: any thread.
class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);
  bool required() const { return !digests_.empty(); }
  // "Authorization: Bearer KEY" or "X-Api-Key: KEY". Without any key configured everyone may.
  bool Allow(const HttpRequest& request) const;
  // A number per client, so that the engine can let them take turns: per key; where none is configured, per address, key
  // sent and `user` together, as nobody is kept from anything there.
  uint64_t ClientOf(const HttpRequest& request, const std::string& user) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  static Digest DigestOf(std::string_view key);
  static std::string_view KeyOf(const HttpRequest& request);
  std::vector<Digest> digests_;
};

}  // namespace rft::serve
