// Frames between us and a worker process: 4 bytes of length (little-endian), then that many bytes of JSON.
//
// The other end may be broken or hostile: a length above the limit is refused before anything is allocated for it, and
// the buffer grows only as bytes arrive.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace rft {

inline constexpr size_t kMaxFrameBytes = size_t{64} << 20;

// REQUIRES: payload.size() <= kMaxFrameBytes
std::string EncodeFrame(std::string_view payload);

class FrameReader {
 public:
  explicit FrameReader(size_t max_bytes = kMaxFrameBytes) : max_bytes_(max_bytes) {}

  void Append(std::string_view bytes) { buffer_.append(bytes); }

  // The next whole payload; nullopt: more bytes are needed. kResourceExhausted: the announced length is above the limit
  // (and stays so: there is no way to find the next frame).
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  const size_t max_bytes_;
  std::string buffer_;
  size_t consumed_ = 0;  // of buffer_
};

}  // namespace rft
