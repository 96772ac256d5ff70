#include "rft/core/routes.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "rft/core/check.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

// number = number * base + digit, little-endian bytes. Returns what didn't fit.
uint32_t MultiplyAdd(uint8_t* number, int64_t bytes, uint32_t base, uint32_t digit) {
  uint32_t carry = digit;
  for (int64_t i = 0; i < bytes; ++i) {
    carry += number[i] * base;
    number[i] = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
  return carry;
}

// number /= base; returns the remainder.
uint32_t Divide(uint8_t* number, int64_t bytes, uint32_t base) {
  uint32_t rest = 0;
  for (int64_t i = bytes - 1; i >= 0; --i) {
    rest = rest << 8 | number[i];
    number[i] = static_cast<uint8_t>(rest / base);
    rest %= base;
  }
  return rest;
}

// Bytes that hold num_experts^top_k - 1.
int64_t BytesFor(int64_t num_experts, int64_t top_k) {
  std::vector<uint8_t> number;
  for (int64_t i = 0; i < top_k; ++i) {
    uint32_t carry =
        MultiplyAdd(number.data(), static_cast<int64_t>(number.size()),
                    static_cast<uint32_t>(num_experts), static_cast<uint32_t>(num_experts - 1));
    for (; carry > 0; carry >>= 8) number.push_back(static_cast<uint8_t>(carry));
  }
  return std::max<int64_t>(1, static_cast<int64_t>(number.size()));
}

}  // namespace

RouteCodec::RouteCodec(int64_t num_layers, int64_t num_experts, int64_t top_k)
    : num_layers_(num_layers), num_experts_(num_experts), top_k_(top_k) {
  RFT_CHECK(num_layers >= 0 && top_k >= 1 && top_k <= num_experts && num_experts <= 1 << 16);
  layer_bytes_ = BytesFor(num_experts, top_k);
}

void RouteCodec::Encode(const int32_t* experts, uint8_t* bytes) const {
  std::fill_n(bytes, token_bytes(), uint8_t{0});
  for (int64_t l = 0; l < num_layers_; ++l, experts += top_k_, bytes += layer_bytes_)
    for (int64_t j = top_k_ - 1; j >= 0; --j)
      MultiplyAdd(bytes, layer_bytes_, static_cast<uint32_t>(num_experts_),
                  static_cast<uint32_t>(experts[j]));
}

absl::Status RouteCodec::Decode(const uint8_t* bytes, int32_t* experts) const {
  bool valid = true;
  std::vector<uint8_t> number(layer_bytes_);
  for (int64_t l = 0; l < num_layers_; ++l, experts += top_k_, bytes += layer_bytes_) {
    std::copy_n(bytes, layer_bytes_, number.begin());
    for (int64_t j = 0; j < top_k_; ++j) {
      experts[j] = static_cast<int32_t>(
          Divide(number.data(), layer_bytes_, static_cast<uint32_t>(num_experts_)));
      valid = valid && (j == 0 || experts[j] > experts[j - 1]);
    }
    valid = valid && std::all_of(number.begin(), number.end(), [](uint8_t b) { return b == 0; });
  }
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("not ", top_k_, " distinct experts of ", num_experts_, " in every layer"));
}

std::string RouteCodec::ToWire(const uint8_t* bytes) const {
  std::vector<int32_t> experts(token_experts());
  Decode(bytes, experts.data()).IgnoreError();
  std::string raw;
  for (int32_t id : experts) {
    raw += static_cast<char>(id & 0xff);
    if (num_experts_ > 256) raw += static_cast<char>(id >> 8);
  }
  return absl::Base64Escape(raw);
}

absl::StatusOr<std::vector<uint8_t>> RouteCodec::FromWire(std::string_view text) const {
  std::string raw;
  if (!absl::Base64Unescape(absl::string_view(text.data(), text.size()), &raw))
    return absl::InvalidArgumentError("not base64");
  const int64_t width = num_experts_ > 256 ? 2 : 1;
  if (static_cast<int64_t>(raw.size()) != token_experts() * width)
    return absl::InvalidArgumentError(absl::StrCat("has ", raw.size(), " bytes; this model needs ",
                                                   num_layers_, " layers x ", top_k_, " experts x ",
                                                   width, " bytes"));
  std::vector<int32_t> experts(token_experts());
  for (size_t i = 0; i < experts.size(); ++i) {
    experts[i] = static_cast<uint8_t>(raw[i * width]);
    if (width == 2) experts[i] |= static_cast<uint8_t>(raw[2 * i + 1]) << 8;
    if (experts[i] >= num_experts_)
      return absl::InvalidArgumentError(
          absl::StrCat("expert ", experts[i], " is not one of ", num_experts_));
  }
  std::vector<uint8_t> bytes(token_bytes());
  for (int64_t l = 0; l < num_layers_; ++l)
    std::sort(experts.begin() + l * top_k_, experts.begin() + (l + 1) * top_k_);
  Encode(experts.data(), bytes.data());
  RFT_RETURN_IF_ERROR(Decode(bytes.data(), experts.data()));
  return bytes;
}

absl::StatusOr<TokenRoutes> TokenRoutesFromWire(const RouteCodec& codec,
                                                absl::Span<const std::string> tokens) {
  TokenRoutes routes;
  for (size_t t = 0; t < tokens.size(); ++t) {
    routes.known.push_back(!tokens[t].empty());
    if (tokens[t].empty()) {
      routes.packed.resize(routes.packed.size() + codec.token_bytes());
      continue;
    }
    auto bytes = codec.FromWire(tokens[t]);
    if (!bytes.ok())
      return absl::InvalidArgumentError(
          absl::StrCat("routing_matrices[", t, "]: ", bytes.status().message()));
    routes.packed.insert(routes.packed.end(), bytes->begin(), bytes->end());
  }
  return routes;
}

absl::StatusOr<TokenRoutes> DatumRoutesFromWire(const RouteCodec& codec,
                                                absl::Span<const std::string> inputs) {
  RFT_ASSIGN_OR_RETURN(TokenRoutes routes, TokenRoutesFromWire(codec, inputs));
  routes.packed.insert(routes.packed.begin(), static_cast<size_t>(codec.token_bytes()), 0);
  routes.known.insert(routes.known.begin(), 0);
  return routes;
}

}  // namespace rft
