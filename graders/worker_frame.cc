#include "graders/worker_frame.h"

#include "absl/strings/str_cat.h"
#include "rft/core/check.h"

namespace rft {
namespace {
constexpr size_t kHeaderBytes = 4;
}

std::string EncodeFrame(std::string_view payload) {
  RFT_CHECK(payload.size() <= kMaxFrameBytes);
  std::string frame;
  frame.reserve(kHeaderBytes + payload.size());
  for (size_t i = 0; i < kHeaderBytes; ++i)
    frame += static_cast<char>((payload.size() >> (8 * i)) & 0xFF);
  frame += payload;
  return frame;
}

absl::StatusOr<std::optional<std::string>> FrameReader::Next() {
  const size_t available = buffer_.size() - consumed_;
  if (available < kHeaderBytes) return std::nullopt;
  size_t length = 0;
  for (size_t i = 0; i < kHeaderBytes; ++i) {
    length |= static_cast<size_t>(static_cast<unsigned char>(buffer_[consumed_ + i])) << (8 * i);
  }
  if (length > max_bytes_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a frame of ", length, " bytes was announced; the limit is ", max_bytes_));
  }
  if (available < kHeaderBytes + length) return std::nullopt;
  std::optional<std::string> payload = buffer_.substr(consumed_ + kHeaderBytes, length);
  consumed_ += kHeaderBytes + length;
  if (consumed_ == buffer_.size()) {
    buffer_.clear();
    consumed_ = 0;
  } else if (consumed_ > buffer_.size() / 2) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  return payload;
}

}  // namespace rft
