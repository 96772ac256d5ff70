#include "rft/engine/next_allowed.h"

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

absl::Status AskGrammar(EngineSequence& s, TokenBits bits) {
  if (!s.mask) {
    RFT_ASSIGN_OR_RETURN(s.mask, s.owner->request.grammar->Start());
  }
  return s.mask->Next(bits);
}

}  // namespace

absl::Status NextAllowed(EngineSequence& s, int64_t vocab_size, std::vector<uint32_t>& allowed) {
  allowed = s.owner->allowed_bits;
  if (!s.owner->request.grammar) return absl::OkStatus();
  std::vector<uint32_t> bits(TokenBitWords(vocab_size), 0);
  if (const absl::Status status = AskGrammar(s, absl::MakeSpan(bits)); !status.ok())
    return absl::Status(status.code(), absl::StrCat("grammar: ", status.message()));
  if (vocab_size % 32 != 0) bits.back() &= (1u << (vocab_size % 32)) - 1;
  uint32_t any = 0;
  for (size_t i = 0; i < bits.size(); ++i) any |= bits[i] &= allowed.empty() ? ~0u : allowed[i];
  if (any == 0) bits.clear();
  allowed = std::move(bits);
  return absl::OkStatus();
}

}  // namespace rft
