// What a trainer trains: a model or an adapter of it, the version of it in use, and, where the model is not on the CPU, its copy for
// a sampler.
//
// Thread safety: belongs to the trainer's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "rft/models/device.h"
#include "rft/models/lora.h"
#include "rft/train/batcher.h"
#include "rft/train/trainer.h"

namespace rft {

class TrainedWeights {
 public:
  // Of options: adapter, frozen.
  TrainedWeights(std::shared_ptr<CausalLm> model, const TrainerOptions& options);

  const std::shared_ptr<CausalLm>& model() const { return model_; }
  const std::shared_ptr<LoraAdapter>& adapter() const { return adapter_; }
  ParameterStore& parameters() const {
    return adapter_ ? adapter_->parameters() : model_->parameters();
  }
  const std::shared_ptr<const ModelWeights>& current() const { return current_; }
  // The current weights; with the adapter's dropout, if it has some: its masks depend on the step, the pass of the step and the
  // batch. The result must outlive the backward.
  std::shared_ptr<const ModelWeights> InTraining(const MicroBatch& batch, int64_t step,
                                                 uint64_t pass) const;

  // kFailedPrecondition for weights that are not trained, and for a base that another trainer trains: it would collect the
  // adapter's gradients as its own.
  absl::Status CheckFrozenBase() const;
  // And for parameters that somebody else trains between this trainer's steps: gradients and versions are theirs, too.
  absl::Status CheckTrainsAlone(const void* trainer) const;

  // Takes the memory of the next version, which may be that of the current one, then calls `change`: it moves the parameters and
  // calls PackVersion. Memory that runs out does so before, with parameters and optimizer as they were; if no new version comes of
  // it, the current one stays.
  template <typename F>
  std::invoke_result_t<F> Change(F&& change) {
    const absl::Cleanup keep_current = [this] {
      if (!current_) current_ = Newest();
    };
    ReserveVersion();
    return change();
  }
  // The parameters, moved by `update` if there is one, as the new version.
  void PackVersion(const ValueUpdate& update);

  // The current version of SamplerModel().
  absl::StatusOr<std::shared_ptr<const PublishedWeights>> ForSampler();
  // The model, or its copy on the CPU: made at the first call.
  absl::StatusOr<std::shared_ptr<CausalLm>> SamplerModel();

 private:
  std::shared_ptr<const ModelWeights> Newest() const {
    return adapter_ ? adapter_->weights() : model_->weights();
  }
  void ReserveVersion();
  absl::StatusOr<SamplerCopy*> sampler_copy();

  const std::shared_ptr<CausalLm> model_;
  const std::shared_ptr<LoraAdapter> adapter_;  // null: the model itself is trained
  const bool frozen_;
  std::shared_ptr<const ModelWeights> current_;
  std::unique_ptr<SamplerCopy> sampler_copy_;
};

}  // namespace rft
