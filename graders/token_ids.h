// For graders that count tokens: a completion graded without a model (rft grade) is text only.
#pragma once

#include "graders/grader.h"

namespace rft {

inline bool LacksTokenIds(const GradeInput& input) {
  return input.token_ids.empty() && !input.completion.empty();
}

inline Grade NoTokenIds() {
  return GradeError{
      "the completion comes without token ids; count another unit (words, characters)"};
}

}  // namespace rft
