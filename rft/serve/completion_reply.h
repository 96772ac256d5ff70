// Replies of /v1/completions: "text_completion" objects, whole or streamed.
#pragma once

#include <memory>

#include "rft/serve/reply_parts.h"

namespace rft::serve {

// echo: the prompt's text goes before each completion's.
std::unique_ptr<ReplyWriter> MakeCompletionReply(ReplyContext context, bool echo);

}  // namespace rft::serve
