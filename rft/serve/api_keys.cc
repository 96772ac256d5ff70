#include "rft/serve/api_keys.h"

#include <cstring>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "rft/core/check.h"

namespace rft::serve {

ApiKeys::Digest ApiKeys::DigestOf(std::string_view key) {
  Digest digest;
  unsigned int length = 0;
  RFT_CHECK(EVP_Digest(key.data(), key.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  return digest;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(DigestOf(key));
}

std::string_view ApiKeys::KeyOf(const HttpRequest& request) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view authorization = request.Header("authorization");
  if (absl::StartsWithIgnoreCase(absl::string_view(authorization.data(), authorization.size()),
                                 absl::string_view(kBearer.data(), kBearer.size())))
    return authorization.substr(kBearer.size());
  return request.Header("x-api-key");
}

uint64_t ApiKeys::ClientOf(const HttpRequest& request, const std::string& user) const {
  uint64_t number = 0;
  const std::string_view key = KeyOf(request);
  const Digest digest =
      DigestOf(required() ? std::string(key)
                          : absl::StrCat(request.peer, "\n", std::string(key), "\n", user));
  std::memcpy(&number, digest.data(), sizeof(number));
  return number;
}

bool ApiKeys::Allow(const HttpRequest& request) const {
  if (!required()) return true;
  const Digest digest = DigestOf(KeyOf(request));
  bool allowed = false;
  for (const Digest& known : digests_)  // no early end: the time does not tell which key is near
    allowed |= CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  return allowed;
}

}  // namespace rft::serve
