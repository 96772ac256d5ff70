#include "rft/serve/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "absl/strings/match.h"
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

bool ApiKeys::Allow(const HttpRequest& request) const {
  if (!required()) return true;
  std::string_view given = request.Header("x-api-key");
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view authorization = request.Header("authorization");
  if (absl::StartsWithIgnoreCase(absl::string_view(authorization.data(), authorization.size()),
                                 absl::string_view(kBearer.data(), kBearer.size())))
    given = authorization.substr(kBearer.size());
  const Digest digest = DigestOf(given);
  bool allowed = false;
  for (const Digest& known : digests_)  // no early end: the time does not tell which key is near
    allowed |= CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  return allowed;
}

}  // namespace rft::serve
