// A finished group as one record of the journal: {"id", "row", "rollouts": [rft/io/rollout_record.h]}. Torch-free.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "rft/core/types.h"

namespace rft {

std::string GroupToRecord(const Group& group);

// The row has its index only; the prompt is that of the first rollout. kInvalidArgument names what is missing or wrong.
absl::StatusOr<Group> GroupFromRecord(std::string_view record);

}  // namespace rft
