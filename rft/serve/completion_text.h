// The text of a growing completion: bytes of tokens to whole characters, cut at stop strings.
//
// Text is handed out as soon as it is certain: a character when its last byte is there, and nothing that may yet turn out
// to be the beginning of a stop string (OpenAI leaves stop strings out of the text). However the tokens arrive, the pieces
// add up to the same text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rft/api/text_codec.h"

namespace rft::serve {

struct TextOptions {
  std::vector<std::string> stop_strings;
  bool include_stop_string = false;
  bool skip_special_tokens = true;
  bool detokenize = true;  // false: there is no text
};

// Of one completion; one thread at a time.
class CompletionText {
 public:
  // The options may be shared by the samples of a request.
  CompletionText(std::shared_ptr<const TextCodec> codec, std::shared_ptr<const TextOptions> options)
      : codec_(std::move(codec)), options_(std::move(options)) {}

  // The next token; text that has become certain.
  std::string Add(TokenId id);
  // The rest. `stopped`: the completion ended because of its last token.
  std::string Finish(bool stopped);
  // The stop string that ended the completion; empty if none did. REQUIRES: Finish.
  const std::string& stop_string() const { return stop_string_; }

 private:
  // Takes the first `count` bytes of held_, but no part of a character unless `all`. Hidden ones are left out.
  std::string Take(size_t count, bool all);

  std::shared_ptr<const TextCodec> codec_;
  std::shared_ptr<const TextOptions> options_;
  std::string held_;  // not handed out yet
  std::vector<bool>
      hidden_;  // by byte of held_: of a skipped special token, which stop strings may name all the same
  size_t stop_at_ =
      std::string::npos;  // where in held_ the stop string begins that the last token completed
  std::string stop_string_;
};

// The bytes of a token; empty for ids outside the table.
std::string_view TokenBytes(const TextCodec& codec, TokenId id);

}  // namespace rft::serve
