// Replies of /v1/completions: "text_completion" objects, whole or streamed.
#pragma once

#include <memory>

#include "rft/serve/reply_parts.h"

namespace rft::serve {

// kPrompt: the prompt's text (and log-probabilities) go before each completion's. kPromptOnly: they are all that was asked
// for (max_tokens 0); the one token that the engine made is left out. A stream begins with them.
enum class EchoMode { kNone, kPrompt, kPromptOnly };
std::unique_ptr<ReplyWriter> MakeCompletionReply(ReplyContext context, EchoMode echo);

}  // namespace rft::serve
