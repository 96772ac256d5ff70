#include "tests/testing/fake_codec.h"

namespace rft::testing {

FakeCodec::FakeCodec() {
  for (int byte = 0; byte < 256; ++byte) token_bytes_.emplace_back(1, static_cast<char>(byte));
  token_bytes_.emplace_back("<begin>");
  token_bytes_.emplace_back("<end>");
  is_special_.assign(258, false);
  is_special_[kBegin] = is_special_[kEnd] = true;
}

std::vector<TokenId> ByteIds(std::string_view text) {
  std::vector<TokenId> ids;
  for (char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

absl::StatusOr<std::vector<TokenId>> FakeCodec::EncodeChat(
    const std::vector<Message>& messages) const {
  std::vector<TokenId> ids = {kBegin};
  for (const Message& message : messages) {
    for (TokenId id : ByteIds(message.content + "\n")) ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<std::vector<TokenId>> FakeCodec::Encode(std::string_view text) const {
  return ByteIds(text);
}

}  // namespace rft::testing
