// New values for the parameters of a model that is being served.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "rft/models/causal_lm.h"

namespace rft {

// Reads the Hugging Face folder `dir` whole, checks that it is the same architecture and shapes, copies its values into
// `model` and packs them as a new version (to be published to its engine). Errors as LoadModel; kInvalidArgument names the
// first parameter that differs; kFailedPrecondition for int8 weights. After an error the model is as it was. Needs the memory
// of a second model meanwhile.
absl::StatusOr<std::shared_ptr<const ModelWeights>> ReloadWeights(CausalLm& model,
                                                                  const std::string& dir);

}  // namespace rft
