#include "rft/models/reload_weights.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/status_macros.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

absl::Status CheckSame(const CausalLm& model, const CausalLm& other, const std::string& dir) {
  if (model.config().architecture != other.config().architecture)
    return absl::InvalidArgumentError(absl::StrCat(dir, ": is a ", other.config().architecture,
                                                   ", the model served is a ",
                                                   model.config().architecture));
  for (const Parameter& mine : model.parameters().all()) {
    const Parameter* theirs = other.parameters().Find(mine.name);
    if (theirs == nullptr)
      return absl::InvalidArgumentError(absl::StrCat(dir, ": has no parameter ", mine.name));
    if (theirs->value.sizes() != mine.value.sizes())
      return absl::InvalidArgumentError(absl::StrCat(
          dir, ": ", mine.name, " has shape [", absl::StrJoin(theirs->value.sizes(), ", "),
          "], the model served [", absl::StrJoin(mine.value.sizes(), ", "), "]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ModelWeights>> ReloadWeights(CausalLm& model,
                                                                  const std::string& dir) {
  if (model.is_int8())
    return absl::FailedPreconditionError(
        "model: its weights are int8, which is for judges and references: it takes no new weights; "
        "load it with dtype bf16 or fp32");
  RFT_ASSIGN_OR_RETURN(const std::shared_ptr<CausalLm> other, LoadModel(dir, model.dtype()));
  RFT_RETURN_IF_ERROR(CheckSame(model, *other, dir));
  return TryTorch([&]() -> std::shared_ptr<const ModelWeights> {
    model.ReserveVersion();  // if memory runs out, then before anything has changed
    for (const Parameter& mine : model.parameters().all()) {
      const Parameter* theirs = other->parameters().Find(mine.name);
      std::memcpy(Data<float>(mine.value), Data<float>(theirs->value),
                  static_cast<size_t>(mine.value.numel()) * sizeof(float));
    }
    auto& buffers =
        model.parameters().buffers();  // the same ones: of the same architecture and shapes
    for (size_t i = 0; i < buffers.size(); ++i)
      buffers[i].value.copy_(other->parameters().buffers()[i].value);
    return model.PackNewVersion();
  });
}

}  // namespace rft
