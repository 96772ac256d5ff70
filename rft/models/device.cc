#include "rft/models/device.h"

#include <algorithm>
#include <string>
#include <utility>

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/tensor/try_torch.h"

namespace rft {

absl::StatusOr<at::Device> ParseDevice(std::string_view name) {
  const std::string text(name);
  const auto device = TryTorch([&] { return at::Device(text); });
  if (!device.ok() || device->is_meta())
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is no device; expected cpu, cuda, cuda:1, ..."));
  if (device->is_cpu()) return at::Device(at::kCPU);
  const int64_t count = c10::impl::hasDeviceGuardImpl(device->type())
                            ? c10::impl::getDeviceGuardImpl(device->type())->deviceCount()
                            : 0;
  if (std::max<int64_t>(0, device->index()) >= count)
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "': torch sees ", count, " such devices here; leave it at cpu"));
  return *device;
}

absl::StatusOr<std::unique_ptr<SamplerCopy>> SamplerCopy::Create(
    const CausalLm& model, std::shared_ptr<const LoraAdapter> adapter) {
  auto copy = std::unique_ptr<SamplerCopy>(new SamplerCopy);
  RFT_ASSIGN_OR_RETURN(auto made, TryTorch([&] {
                         return (*ModelRegistry::Get().Find(model.config().architecture))(
                             model.config(), model.weight_dtype());
                       }));
  RFT_ASSIGN_OR_RETURN(copy->model_, std::move(made));
  copy->model_->set_source_dir(model.source_dir());
  copy->trained_adapter_ = std::move(adapter);
  copy->trained_ = &model.parameters();
  // They never change, and are on the CPU.
  auto& buffers = copy->model_->parameters().buffers();
  for (size_t i = 0; i < buffers.size(); ++i)
    buffers[i].value = model.parameters().buffers()[i].value;
  RFT_RETURN_IF_ERROR(TryTorch([&] {
    if (copy->trained_->is_offloaded()) copy->model_->parameters().ShareValuesOf(*copy->trained_);
    if (copy->trained_adapter_ == nullptr) return;
    if (!copy->trained_->is_offloaded())
      copy->model_->parameters().values().copy_(copy->trained_->values());
    copy->adapter_ = copy->trained_adapter_->On(copy->model_);
  }));
  return copy;
}

absl::StatusOr<std::shared_ptr<const ModelWeights>> SamplerCopy::Update(int64_t number) {
  if (current_ && current_->version() == number) return current_;
  return TryTorch([&] {
    current_.reset();  // its memory may be the next one's
    if (adapter_) {
      adapter_->parameters().values().copy_(trained_adapter_->parameters().values());
      current_ = adapter_->PackNewVersion(number);
    } else {
      if (!trained_->is_offloaded()) model_->parameters().values().copy_(trained_->values());
      current_ = model_->PackNewVersion({}, number);
    }
    return current_;
  });
}

}  // namespace rft
