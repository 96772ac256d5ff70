// Streams a choice in one piece, when it is finished: for what is known only then (the experts of its tokens).
#pragma once

#include <memory>

#include "rft/serve/generation_job.h"

namespace rft::serve {

// `writer` gets all tokens of a choice at once, and nothing before. Replies that are not streamed stay as they are.
std::shared_ptr<ReplyWriter> MakeWholeChoiceReply(std::shared_ptr<ReplyWriter> writer);

}  // namespace rft::serve
