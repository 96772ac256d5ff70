#include "tests/testing/fake_codec.h"

#include "rft/io/json.h"

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

absl::StatusOr<std::vector<TokenId>> FakeCodec::EncodeChatJson(std::string_view chat) const {
  const absl::StatusOr<json::value> value = ParseJson(chat);
  if (!value.ok()) return value.status();
  const json::object& object = value->as_object();
  std::vector<TokenId> ids = {kBegin};
  if (const json::value* tools = object.if_contains("tools"))
    for (TokenId id : ByteIds(ToJson(*tools))) ids.push_back(id);
  for (const json::value& message : object.at("messages").as_array()) {
    const json::string& content = message.as_object().at("content").as_string();
    for (TokenId id : ByteIds(std::string(content.data(), content.size()) + "\n"))
      ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<std::vector<TokenId>> FakeCodec::Encode(std::string_view text) const {
  return ByteIds(text);
}

}  // namespace rft::testing
