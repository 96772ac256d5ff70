// Mixture-of-experts routing of tokens, bit-packed: what the engine records, a rollout stores and the trainer replays.
//
// Per token and layer the chosen experts, ascending, are one number in base num_experts, in as few bytes as hold it:
// ceil(top_k log2(num_experts) / 8). 128 experts, top 8: 7 bytes a layer (8 uint8 ids would be 8, int32 ids 32).
// With a power of two this is bit-packing: expert j in bits j * log2(num_experts) onwards, least significant byte first.
//
// Alignment is that of log-probabilities: entry t is the routing of the position that predicted token t (the input t - 1).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace rft {

// Routes of a run of tokens.
struct TokenRoutes {
  std::vector<uint8_t> packed;  // RouteCodec::token_bytes() per token; empty: nothing is known
  std::vector<uint8_t> known;   // per token, 0: its entry is meaningless; empty: all are known
  bool empty() const { return packed.empty(); }
  bool has(int64_t token) const { return !empty() && (known.empty() || known[token] != 0); }
};

// Immutable; any thread.
class RouteCodec {
 public:
  RouteCodec() = default;  // of a dense model: token_bytes() is 0
  // REQUIRES: 1 <= top_k <= num_experts, 0 <= num_layers.
  RouteCodec(int64_t num_layers, int64_t num_experts, int64_t top_k);

  int64_t num_layers() const { return num_layers_; }  // mixture-of-experts layers
  int64_t num_experts() const { return num_experts_; }
  int64_t top_k() const { return top_k_; }
  int64_t layer_bytes() const { return layer_bytes_; }
  int64_t token_bytes() const { return num_layers_ * layer_bytes_; }
  int64_t token_experts() const { return num_layers_ * top_k_; }

  // experts: [num_layers][top_k], ids in [0, num_experts). bytes: token_bytes().
  void Encode(const int32_t* experts, uint8_t* bytes) const;
  // kInvalidArgument unless each layer's ids are distinct and ascending; `experts` is overwritten even then.
  absl::Status Decode(const uint8_t* bytes, int32_t* experts) const;

  // One token on the wire (../protocol of the Training API): base64 of the row-major [num_layers, top_k] ids, uint8 up to
  // 256 experts, uint16 little-endian above. "" stands for "the router decides".
  std::string ToWire(const uint8_t* bytes) const;
  // The packed bytes. kInvalidArgument: not base64, a wrong length, an id out of range or twice. Ids may come in any order.
  absl::StatusOr<std::vector<uint8_t>> FromWire(std::string_view text) const;

 private:
  int64_t num_layers_ = 0, num_experts_ = 0, top_k_ = 0, layer_bytes_ = 0;
};

// Routes of tokens from one wire string for each, aligned as above ("" = unknown): what `logprobs.content` of a reply has.
absl::StatusOr<TokenRoutes> TokenRoutesFromWire(const RouteCodec& codec,
                                                absl::Span<const std::string> tokens);
// Routes of a Datum from `model_input.routing_matrices` of the Training API: string p belongs to the forward that had token
// p as its input, and predicted token p + 1. N strings make routes of N + 1 tokens, nothing known of the first.
absl::StatusOr<TokenRoutes> DatumRoutesFromWire(const RouteCodec& codec,
                                                absl::Span<const std::string> inputs);

}  // namespace rft
