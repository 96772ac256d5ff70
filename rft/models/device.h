// The device that a model is trained on: the CPU, where our kernels run and the engine samples, or one that torch knows, where
// torch's own operations run (rft/tensor/composite.h).
//
//   auto model = LoadModel(dir, dtype);  device = ParseDevice("cuda");  model->MoveTo(*device);   // before its first version
//
// Memory there per parameter, in bytes, c of the compute dtype (a version), trained with AdamW: c + 16 (float32 values, gradients,
// two moments), or offloaded, c + 4 (gradients); frozen under an adapter: c + 4, or offloaded, c.
#pragma once

#include <memory>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "rft/models/lora.h"

namespace rft {

// "cpu", "cuda", "cuda:1" or what else torch calls one. kInvalidArgument for another name, and where torch sees no such device.
absl::StatusOr<at::Device> ParseDevice(std::string_view name);

// What is trained on another device, once more on the CPU. Not thread-safe.
class SamplerCopy {
 public:
  // Of a model, or of an adapter and its base; the model must outlive it. Takes the memory of a model loaded, less the
  // float32 values if those of the model are offloaded: they are shared. Errors: kResourceExhausted.
  static absl::StatusOr<std::unique_ptr<SamplerCopy>> Create(
      const CausalLm& model, std::shared_ptr<const LoraAdapter> adapter);

  // What is trained as it is now, as version `number` of model(). Copies the values unless it has that version already.
  absl::StatusOr<std::shared_ptr<const ModelWeights>> Update(int64_t number);
  const std::shared_ptr<CausalLm>& model() const { return model_; }

 private:
  SamplerCopy() = default;

  const ParameterStore* trained_ = nullptr;
  std::shared_ptr<const LoraAdapter> trained_adapter_;
  std::shared_ptr<CausalLm> model_;
  std::shared_ptr<LoraAdapter> adapter_;
  std::shared_ptr<const ModelWeights> current_;
};

}  // namespace rft
