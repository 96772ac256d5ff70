// `tools` and `tool_choice` of a chat. Torch-free.
#pragma once

#include <optional>

#include "rft/api/token_mask.h"
#include "rft/serve/fields.h"
#include "rft/serve/limits.h"

namespace rft::serve {

struct ToolFields {
  const json::array* tools = nullptr;  // what the model is told about; null = nothing
  // Set where the completion must be one call: of any of the tools ("required"), or of the named one.
  std::optional<GrammarSpec> call;
  bool one_call = false;  // further ones are left out of the reply
};

// Mistakes are left in `fields`, whose object must outlive the result.
ToolFields ReadToolFields(Fields& fields, const ServeLimits& limits);

}  // namespace rft::serve
