// A byte-level codec for tests: id = byte; 256 begins a chat, 257 ends a completion (both special). Vocabulary: 258.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rft/api/text_codec.h"

namespace rft::testing {

class FakeCodec : public TextCodec {
 public:
  static constexpr TokenId kBegin = 256;
  static constexpr TokenId kEnd = 257;

  FakeCodec();

  // kBegin, then the contents, each followed by '\n'.
  absl::StatusOr<std::vector<TokenId>> EncodeChat(
      const std::vector<Message>& messages) const override;
  // The same, after the text of "tools" if there are any.
  absl::StatusOr<std::vector<TokenId>> EncodeChatJson(std::string_view chat) const override;
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text) const override;
  const std::vector<std::string>& token_bytes() const override { return token_bytes_; }
  const std::vector<bool>& is_special() const override { return is_special_; }
  const std::vector<TokenId>& end_ids() const override { return end_ids_; }

 private:
  std::vector<std::string> token_bytes_;
  std::vector<bool> is_special_;
  const std::vector<TokenId> end_ids_ = {kEnd};
};

// The ids of the bytes of `text`.
std::vector<TokenId> ByteIds(std::string_view text);

}  // namespace rft::testing
