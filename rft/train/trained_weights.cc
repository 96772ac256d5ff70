#include "rft/train/trained_weights.h"

#include <utility>

#include "rft/core/status_macros.h"
#include "rft/train/adapter_dropout.h"

namespace rft {

TrainedWeights::TrainedWeights(std::shared_ptr<CausalLm> model, const TrainerOptions& options)
    : model_(std::move(model)),
      adapter_(options.adapter),
      frozen_(options.frozen != nullptr),
      current_(frozen_ ? options.frozen : Newest()) {}

std::shared_ptr<const ModelWeights> TrainedWeights::InTraining(const MicroBatch& batch,
                                                               int64_t step, uint64_t pass) const {
  if (!adapter_ || adapter_->config().dropout == 0.0) return current_;
  return WithDropout(*current_, adapter_->config(), step, pass, batch);
}

absl::Status TrainedWeights::CheckFrozenBase() const {
  if (frozen_) return absl::FailedPreconditionError("trainer: a frozen reference is not trained");
  if (model_->is_int8())
    return absl::FailedPreconditionError(
        "trainer: int8 weights are for judges and references; load it with dtype bf16 or fp32");
  if (adapter_ && model_->parameters().grads().defined())
    return absl::FailedPreconditionError(
        "trainer: another trainer trains this adapter's base; give it a model of its own");
  return absl::OkStatus();
}

absl::Status TrainedWeights::CheckTrainsAlone(const void* trainer) const {
  RFT_RETURN_IF_ERROR(CheckFrozenBase());
  if (current_ != Newest())
    return absl::FailedPreconditionError(
        "trainer: somebody else has changed these weights; make a new trainer of them");
  if (const void* owner = parameters().gradient_owner(); owner != nullptr && owner != trainer)
    return absl::FailedPreconditionError(
        "trainer: another trainer's gradient is in use; call its optim_step or zero_grad first");
  return absl::OkStatus();
}

void TrainedWeights::ReserveVersion() {
  current_.reset();  // lets its memory be reused when nobody samples from it any more
  if (adapter_)
    adapter_->ReserveVersion();
  else
    model_->ReserveVersion();
}

void TrainedWeights::PackVersion(const ValueUpdate& update) {
  if (!adapter_) {
    current_ = model_->PackNewVersion(update);
    return;
  }
  if (update) parameters().Update(update);
  current_ = adapter_->PackNewVersion();
}

absl::StatusOr<std::shared_ptr<const PublishedWeights>> TrainedWeights::ForSampler() {
  if (model_->device().is_cpu()) return current_;
  RFT_ASSIGN_OR_RETURN(SamplerCopy * copy, sampler_copy());
  return copy->Update(current_->version());
}

absl::StatusOr<std::shared_ptr<CausalLm>> TrainedWeights::SamplerModel() {
  if (model_->device().is_cpu()) return model_;
  RFT_ASSIGN_OR_RETURN(SamplerCopy * copy, sampler_copy());
  return copy->model();
}

absl::StatusOr<SamplerCopy*> TrainedWeights::sampler_copy() {
  if (frozen_)
    return absl::FailedPreconditionError(
        "trainer: a frozen reference on another device only scores");
  if (!sampler_copy_) {
    RFT_ASSIGN_OR_RETURN(sampler_copy_, SamplerCopy::Create(*model_, adapter_));
  }
  return sampler_copy_.get();
}

}  // namespace rft
