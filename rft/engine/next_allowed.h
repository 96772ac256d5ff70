// Which tokens a completion may go on with: its request's allowed_ids and what its grammar says. Torch-free.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "rft/engine/sequence.h"

namespace rft {

// Overwrites `allowed` with TokenBits; none (an empty vector): nothing may follow, the text is complete. Starts the
// grammar's mask at the first call. Errors are the grammar's.
absl::Status NextAllowed(EngineSequence& sequence, int64_t vocab_size,
                         std::vector<uint32_t>& allowed);

}  // namespace rft
