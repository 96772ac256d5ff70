// Structured output: which tokens may come next, so that a completion can only be what a grammar allows. Torch-free.
//
// Whoever submits a request brings a `TokenGrammar` (a JSON schema, regular expression or EBNF that a library has compiled
// for this vocabulary; bindings/ has one over xgrammar); the engine starts one `TokenMask` per completion, asks it before
// every draw and tells it what was drawn. The mask's log-probabilities are renormalised over what is allowed and recorded as
// `sampling_logprobs`; `logprobs` stay those of the whole vocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/core/types.h"

namespace rft {

// Bit id % 32 of word id / 32 is set where `id` may be drawn.
using TokenBits = absl::Span<uint32_t>;
inline int64_t TokenBitWords(int64_t vocab_size) { return (vocab_size + 31) / 32; }

// The state of one completion. Used by one thread at a time.
class TokenMask {
 public:
  virtual ~TokenMask() = default;
  // Which tokens may come next; `bits` has TokenBitWords(vocab) words and is overwritten. No bit set: the text is complete,
  // and the completion ends here.
  virtual absl::Status Next(TokenBits bits) = 0;
  // `id` was drawn; it was allowed by the last Next.
  virtual absl::Status Accept(TokenId id) = 0;
};

struct GrammarSpec {
  enum class Kind : uint8_t { kJsonSchema, kAnyJson, kRegex, kEbnf, kToolCall };
  Kind kind = Kind::kAnyJson;
  // Of the schema, expression or grammar; empty for kAnyJson. kToolCall: the schema of {"name", "arguments"}, which the text
  // has between <tool_call> and </tool_call>, each on a line of its own (Hermes, Qwen).
  std::string text;
};

// A compiled grammar. Thread-safe; outlives its masks.
class TokenGrammar {
 public:
  virtual ~TokenGrammar() = default;
  virtual absl::StatusOr<std::unique_ptr<TokenMask>> Start() const = 0;
  // What it was compiled from, for engines that hand it on; null where that isn't known.
  virtual const GrammarSpec* spec() const { return nullptr; }
};

// For one vocabulary. kInvalidArgument says what is wrong with the text. Thread-safe.
using GrammarCompiler =
    std::function<absl::StatusOr<std::shared_ptr<const TokenGrammar>>(const GrammarSpec& spec)>;

}  // namespace rft
