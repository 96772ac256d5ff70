// Replies of /v1/chat/completions: "chat.completion" objects and their chunks.
#pragma once

#include <memory>

#include "rft/serve/reply_parts.h"

namespace rft::serve {

// parse_tools: tool calls in the text become `tool_calls`.
std::unique_ptr<ReplyWriter> MakeChatReply(ReplyContext context, bool parse_tools);

}  // namespace rft::serve
