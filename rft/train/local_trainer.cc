// The trainer in this process: checks what a verb is given, and has it done by gradient_accumulator.h, optimizer.h and
// trained_weights.h.
#include <cmath>
#include <optional>

#include <ATen/TensorOperators.h>

#include "absl/strings/str_cat.h"
#include "losses/loss.h"
#include "losses/preference_loss.h"
#include "rft/core/status_macros.h"
#include "rft/models/delta_folder.h"
#include "rft/tensor/memory.h"
#include "rft/tensor/try_torch.h"
#include "rft/train/distillation.h"
#include "rft/train/export_check.h"
#include "rft/train/gradient_accumulator.h"
#include "rft/train/loss_inputs.h"
#include "rft/train/memory_planner.h"
#include "rft/train/optimizer.h"
#include "rft/train/packed_forward.h"
#include "rft/train/preference.h"
#include "rft/train/trained_weights.h"
#include "rft/train/trainer.h"
#include "rft/train/trainer_state.h"

namespace rft {
namespace {

// TryTorch for what returns a Status itself.
template <typename F>
absl::Status TryStatus(F&& body) {
  const absl::StatusOr<absl::Status> result = TryTorch(std::forward<F>(body));
  return result.ok() ? *result : result.status();
}

class LocalTrainer : public Trainer {
 public:
  LocalTrainer(std::shared_ptr<CausalLm> model, const TrainerOptions& options)
      : options_(options),
        forward_(model, options_.temperature, options_.replay_routes),
        weights_(std::move(model), options_),
        gradient_(options_, forward_, weights_) {}

  absl::StatusOr<ForwardResult> Forward(absl::Span<const Datum> datums) override {
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    return TryTorch(
        [&] { return forward_.Score(datums, *weights_.current(), options_.token_budget); });
  }

  absl::StatusOr<Description> Describe(absl::Span<const Datum> datums, int32_t top_k) override {
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    const int64_t vocab_size = model()->config().vocab_size;
    if (top_k < 0 || top_k > vocab_size)
      return absl::InvalidArgumentError(
          absl::StrCat("top_k: ", top_k, " is not in 0 .. ", vocab_size));
    return TryTorch([&] {
      return forward_.Describe(datums, *weights_.current(), options_.token_budget, top_k);
    });
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackward(absl::Span<const Datum> datums,
                                                        const LossConfig& config) override {
    RFT_RETURN_IF_ERROR(CheckDatums(datums));
    const Loss* loss = nullptr;
    RFT_RETURN_IF_ERROR(TryTorch([&] { loss = &FindLoss(config.name); }));
    RFT_RETURN_IF_ERROR(ValidateLossInputs(datums, config));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    return gradient_.AddPolicy(datums, *loss, config, num_steps());
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackwardCustom(absl::Span<const Datum> datums,
                                                              const CustomLoss& loss) override {
    RFT_RETURN_IF_ERROR(CheckDatums(datums));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    return gradient_.AddCustom(datums, loss, num_steps());
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackwardPreference(absl::Span<const Datum> datums,
                                                                  const PreferenceConfig& config,
                                                                  bool gradient) override {
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    const PreferenceLoss* loss = nullptr;
    RFT_RETURN_IF_ERROR(TryTorch([&] { loss = &FindPreferenceLoss(config.name); }));
    RFT_RETURN_IF_ERROR(ValidatePreference(datums, *loss));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    return gradient_.AddPreference(datums, *loss, config, gradient, num_steps());
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackwardDistillation(
      absl::Span<const Datum> datums, const Description& teacher,
      const DistillationConfig& config) override {
    RFT_RETURN_IF_ERROR(CheckDatums(datums));
    RFT_RETURN_IF_ERROR(ValidateTeacher(datums, teacher, model()->config().vocab_size));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    return gradient_.AddDistillation(datums, teacher, config, num_steps());
  }

  absl::StatusOr<OptimStepResult> OptimStep(const AdamParams& params) override {
    if (gradient_.empty())
      return absl::FailedPreconditionError(
          "optim_step: no gradient has been accumulated; call forward_backward first");
    RFT_RETURN_IF_ERROR(Optimizer::Check(params));
    return TryTorch([&] {
      OptimStepResult result;
      const double scale = gradient_.scale();
      result.grad_norm = Optimizer::Norm(parameters().grads()) * scale;
      result.skipped = gradient_.poisoned() || !std::isfinite(result.grad_norm);
      if (result.skipped) {
        ZeroGrad();
      } else {
        const double clip =
            params.grad_clip_norm > 0 && result.grad_norm > params.grad_clip_norm
                ? params.grad_clip_norm / (result.grad_norm + 1e-6)  // as torch's clip_grad_norm_
                : 1.0;
        weights_.Change([&] {
          weights_.PackVersion(optimizer().BeginStep(parameters(), scale * clip, params));
        });
        gradient_.Forget();
      }
      result.version = weights_.current()->version();
      return result;
    });
  }

  void ZeroGrad() override { gradient_.Clear(); }

  absl::Status SaveState(const std::string& dir) override { return SaveStateShard(dir, 0, 1); }
  absl::Status SaveStateShard(const std::string& dir, int64_t index, int64_t count) override {
    return TryStatus([&] {
      return SaveTrainerState(dir, parameters(), optimizer(), {index, count});
    });
  }
  absl::Status LoadState(const std::string& dir) override {
    RFT_RETURN_IF_ERROR(weights_.CheckFrozenBase());
    return TryStatus([&] {
      return weights_.Change([&]() -> absl::Status {
        RFT_RETURN_IF_ERROR(LoadTrainerState(dir, parameters(), optimizer()));
        weights_.PackVersion({});
        ZeroGrad();
        return absl::OkStatus();
      });
    });
  }
  absl::Status SaveModel(const std::string& dir) override {
    if (adapter()) return adapter()->SaveMerged(dir, SaveDtype::kBFloat16);
    return rft::SaveModel(*model(), dir, SaveDtype::kBFloat16);
  }
  absl::Status SaveAdapter(const std::string& dir) override {
    return adapter() ? adapter()->Save(dir) : Trainer::SaveAdapter(dir);
  }
  absl::Status SaveDelta(const std::string& dir) override {
    return adapter() ? adapter()->Save(dir) : rft::SaveDelta(*model(), dir);
  }
  absl::StatusOr<std::optional<double>> CheckExport(const std::string& dir,
                                                    absl::Span<const Datum> datums) override {
    return rft::CheckExport(*this, options_, dir, datums);
  }

  absl::StatusOr<std::shared_ptr<const PublishedWeights>> SaveWeightsForSampler() override {
    return weights_.ForSampler();
  }
  absl::StatusOr<std::shared_ptr<CausalLm>> SamplerModel() override {
    return weights_.SamplerModel();
  }
  absl::StatusOr<std::vector<std::vector<Completion>>> Sample(std::vector<GenerateRequest> requests,
                                                              double deadline_s) override {
    if (!options_.sampler)
      return absl::FailedPreconditionError(
          "sample: this trainer has no engine; give TrainerOptions::sampler one to make, "
          "LocalSampler() say");
    if (!engine_) {
      RFT_ASSIGN_OR_RETURN(auto sampled, SamplerModel());
      RFT_ASSIGN_OR_RETURN(engine_, options_.sampler(std::move(sampled)));
    }
    RFT_ASSIGN_OR_RETURN(auto current, SaveWeightsForSampler());
    RFT_RETURN_IF_ERROR(engine_->Publish(std::move(current)));
    return GenerateAll(*engine_, std::move(requests), deadline_s);
  }

  absl::Status Follow(const Trainer& other, double decay) override {
    RFT_RETURN_IF_ERROR(weights_.CheckFrozenBase());
    at::Tensor &own = parameters().values(), &theirs = other.parameters().values();
    if (own.numel() != theirs.numel() || !(decay >= 0.0 && decay <= 1.0))
      return absl::InvalidArgumentError(
          "follow: needs a trainer of the same parameters and a decay from 0 to 1");
    return TryTorch([&] {
      weights_.Change([&] {
        own.mul_(decay).add_(theirs.to(own.device()), 1.0 - decay);
        weights_.PackVersion({});
      });
    });
  }

  absl::StatusOr<MemoryPlan> PlanMemory(const MemoryWorkload& workload,
                                        int64_t limit_bytes) override {
    RFT_ASSIGN_OR_RETURN(MemoryPlan plan,
                         rft::PlanMemory(*model(), options_, workload, limit_bytes));
    options_.token_budget = plan.token_budget;
    return plan;
  }

  std::shared_ptr<CausalLm> model() const override { return weights_.model(); }
  std::shared_ptr<LoraAdapter> adapter() const override { return weights_.adapter(); }
  ParameterStore& parameters() const override { return weights_.parameters(); }
  int64_t num_steps() const override { return optimizer_ ? optimizer_->num_steps() : 0; }

 private:
  absl::Status CheckDatums(absl::Span<const Datum> datums) const {
    if (datums.empty()) return absl::InvalidArgumentError("datums: is empty");
    return forward_.Validate(datums);
  }
  absl::Status CheckTrainsAlone() const { return weights_.CheckTrainsAlone(&gradient_); }

  // Moments are allocated when first needed: a model that only scores (a KL reference) never pays for them.
  Optimizer& optimizer() {
    if (!optimizer_) optimizer_.emplace(parameters(), options_.optimizer);
    return *optimizer_;
  }

  TrainerOptions options_;
  PackedForward forward_;
  TrainedWeights weights_;
  GradientAccumulator gradient_;
  std::optional<Optimizer> optimizer_;
  std::unique_ptr<InferenceEngine> engine_;  // of Sample
};

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(std::shared_ptr<CausalLm> model,
                                                         const TrainerOptions& options) {
  if (options.token_budget < 1)
    return absl::InvalidArgumentError("trainer.token_budget: must be at least 1");
  RFT_RETURN_IF_ERROR(Optimizer::Check(options.optimizer));
  if (options.checkpoint_every < 0)
    return absl::InvalidArgumentError("trainer.checkpoint_every: must be at least 0");
  if (!(options.temperature > 0))
    return absl::InvalidArgumentError("trainer: the temperature must be positive");
  if (!model->parameters().values().is_cpu() && options.optimizer.state != "fp32")
    return absl::InvalidArgumentError(
        absl::StrCat("trainer.optimizer_state: ", options.optimizer.state,
                     " is for the CPU: trainer.device cpu, or another one with trainer.offload"));
  if (options.adapter && options.adapter->base() != model)
    return absl::InvalidArgumentError("trainer: the adapter belongs to another model");
  KeepFreedMemory();
  return TryTorch([&]() -> std::unique_ptr<Trainer> {
    return std::make_unique<LocalTrainer>(std::move(model), options);
  });
}

}  // namespace rft
