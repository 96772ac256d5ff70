#include "rft/api/text_codec.h"

#include "rft/core/text.h"

namespace rft {

absl::StatusOr<std::vector<TokenId>> TextCodec::EncodeChatJson(std::string_view /*chat*/) const {
  return absl::UnimplementedError("this text codec renders plain messages only");
}

absl::StatusOr<std::shared_ptr<const TokenGrammar>> TextCodec::CompileGrammar(
    const GrammarSpec& /*spec*/) const {
  return absl::UnimplementedError("this text codec compiles no grammars");
}

std::string DecodeTokens(const TextCodec& codec, absl::Span<const TokenId> ids) {
  const std::vector<std::string>& token_bytes = codec.token_bytes();
  const std::vector<bool>& is_special = codec.is_special();
  std::string bytes;
  for (TokenId id : ids) {
    const auto index = static_cast<size_t>(id);
    // A model's vocabulary may be padded beyond the tokenizer's: such ids stand for nothing.
    if (id < 0 || index >= token_bytes.size()) continue;
    if (index < is_special.size() && is_special[index]) continue;
    bytes += token_bytes[index];
  }
  return ReplaceInvalidUtf8(bytes);
}

}  // namespace rft
