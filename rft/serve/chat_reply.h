// Replies of /v1/chat/completions: "chat.completion" objects and their chunks.
#pragma once

#include <memory>

#include "rft/serve/reply_parts.h"

namespace rft::serve {

struct ToolReply {
  bool parse = false;     // tool calls in the text become `tool_calls`
  bool one_call = false;  // of each choice the first one only
};

std::unique_ptr<ReplyWriter> MakeChatReply(ReplyContext context, ToolReply tools);

}  // namespace rft::serve
