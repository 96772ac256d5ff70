// The JSON in what a model wrote: on its own, or in a fenced block.
// Pure; any thread. Depth and size are limited (rft/io/json.h).
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "rft/io/json.h"

namespace rft {

// The content of the last ```json or ``` block that is closed; `text` itself if there is none.
std::string_view FencedOrAll(std::string_view text);

// What ParseJson makes of it; with `fences`, of FencedOrAll. kInvalidArgument says where the mistake is.
absl::StatusOr<json::value> ParseModelJson(std::string_view text, bool fences);

// Equal as JSON values: members in any order; numbers by value (1 is 1.0). With `tolerance` numbers may differ by
// tolerance * max(1, |b|).
bool JsonEqual(const json::value& a, const json::value& b, double tolerance = 0.0);

}  // namespace rft
