// The trainer in this process.
#include <cmath>
#include <optional>
#include <type_traits>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "losses/distillation.h"
#include "losses/loss.h"
#include "rft/core/status_macros.h"
#include "rft/models/delta_folder.h"
#include "rft/models/device.h"
#include "rft/tensor/checkpoint.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/memory.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/try_torch.h"
#include "rft/train/adapter_dropout.h"
#include "rft/train/batcher.h"
#include "rft/train/distillation.h"
#include "rft/train/export_check.h"
#include "rft/train/loss_inputs.h"
#include "rft/train/memory_planner.h"
#include "rft/train/optimizer.h"
#include "rft/train/packed_forward.h"
#include "rft/train/preference.h"
#include "rft/train/step_metrics.h"
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

absl::Status CheckNotEmpty(absl::Span<const Datum> datums) {
  return datums.empty() ? absl::InvalidArgumentError("datums: is empty") : absl::OkStatus();
}

class LocalTrainer : public Trainer {
 public:
  LocalTrainer(std::shared_ptr<CausalLm> model, const TrainerOptions& options)
      : model_(std::move(model)),
        options_(options),
        forward_(model_, options_.temperature, options_.replay_routes),
        weights_(options_.frozen    ? options_.frozen
                 : options_.adapter ? options_.adapter->weights()
                                    : model_->weights()) {}

  ~LocalTrainer() override {
    if (accumulated_) ZeroGrad();  // the next trainer of these parameters begins with none
  }

  absl::StatusOr<ForwardResult> Forward(absl::Span<const Datum> datums) override {
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    return TryTorch([&] { return forward_.Score(datums, *weights_, options_.token_budget); });
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackward(absl::Span<const Datum> datums,
                                                        const LossConfig& config) override {
    RFT_RETURN_IF_ERROR(CheckNotEmpty(datums));
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    const Loss* loss = nullptr;
    RFT_RETURN_IF_ERROR(TryTorch([&] { loss = &FindLoss(config.name); }));
    RFT_RETURN_IF_ERROR(ValidateLossInputs(datums, config));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    return Accumulating(TryTorch([&] {
      parameters().EnableGradients();
      const uint64_t masks = ++num_passes_;
      ForwardBackwardResult result;
      result.logprobs = EmptyRows(datums);
      StepMetrics metrics;
      RoutingSums routing_sums;
      for (const MicroBatch& batch : MakeMicroBatches(datums, options_.token_budget)) {
        const auto weights = WeightsInTraining(batch, masks);
        const ops::CheckpointScope scope(options_.checkpoint_every);
        Routing routing = forward_.MakeRouting(datums, batch);
        routing.summarize = true;
        routing.penalty = {options_.router_load_balance_coef, options_.router_z_coef};
        at::Tensor entropy_N, logprobs_N = forward_.Logprobs(*weights, batch, routing, &entropy_N);
        Scatter(batch, logprobs_N, result.logprobs);
        LossInput input = LossInputs(datums, batch, logprobs_N);
        if (config.top_entropy || config.entropy_coef != 0.0) input.entropy_T = entropy_N;
        const LossOutput output = loss->forward(input, config);
        metrics.Add(output, entropy_N);
        denominator_ += output.denominator;
        routing.penalty.weight = output.denominator;
        routing_sums.Add(routing.sums);
        result.num_computed_tokens += static_cast<int64_t>(batch.ids.size());
        Backward(output.sum, result.finite);
      }
      metrics.Finish(datums, result);
      AddRoutingMetrics(routing_sums, result.metrics);
      return result;
    }));
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackwardCustom(absl::Span<const Datum> datums,
                                                              const CustomLoss& loss) override {
    RFT_RETURN_IF_ERROR(CheckNotEmpty(datums));
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    const uint64_t masks = ++num_passes_;  // both passes see the same dropout
    RFT_ASSIGN_OR_RETURN(
        ForwardResult forward, TryTorch([&] {
          at::NoGradGuard no_grad;
          ForwardResult result;
          result.logprobs = EmptyRows(datums);
          for (const MicroBatch& batch : MakeMicroBatches(datums, options_.token_budget)) {
            const auto weights = WeightsInTraining(batch, masks);
            Routing routing = forward_.MakeRouting(datums, batch);
            Scatter(batch, forward_.Logprobs(*weights, batch, routing), result.logprobs);
          }
          return result;
        }));
    RFT_ASSIGN_OR_RETURN(const CustomLossResult custom, loss(forward.logprobs));
    RFT_RETURN_IF_ERROR(ValidateCustomLoss(custom, datums));
    return Accumulating(TryTorch([&] {
      parameters().EnableGradients();
      ForwardBackwardResult result;
      RoutingSums routing_sums;
      result.loss_sum = custom.loss_sum;
      result.metrics = custom.metrics;
      result.finite = std::isfinite(custom.loss_sum);
      poisoned_ = poisoned_ || !result.finite;
      for (const MicroBatch& batch : MakeMicroBatches(datums, options_.token_budget)) {
        std::vector<float> gradient;
        for (const auto& p : batch.predictions)
          gradient.push_back(custom.dlogprobs[p.datum][p.token]);
        result.num_tokens += static_cast<int64_t>(gradient.size());
        result.num_rows += static_cast<int64_t>(batch.datums.size());
        result.num_computed_tokens += static_cast<int64_t>(batch.ids.size());
        const auto weights = WeightsInTraining(batch, masks);
        const ops::CheckpointScope scope(options_.checkpoint_every);
        Routing routing = forward_.MakeRouting(datums, batch);
        routing.summarize = true;
        routing.penalty = {options_.router_load_balance_coef, options_.router_z_coef,
                           custom.denominator * static_cast<double>(batch.datums.size()) /
                               static_cast<double>(datums.size())};
        const at::Tensor logprobs_N = forward_.Logprobs(*weights, batch, routing);
        routing_sums.Add(routing.sums);
        Backward((logprobs_N * at::tensor(gradient, at::kFloat)).sum(), result.finite);
      }
      denominator_ += custom.denominator;
      AddRoutingMetrics(routing_sums, result.metrics);
      result.logprobs = std::move(forward.logprobs);
      return result;
    }));
  }

  absl::StatusOr<Description> Describe(absl::Span<const Datum> datums, int32_t top_k) override {
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    if (top_k < 0 || top_k > model_->config().vocab_size)
      return absl::InvalidArgumentError(
          absl::StrCat("top_k: ", top_k, " is not in 0 .. ", model_->config().vocab_size));
    return TryTorch(
        [&] { return forward_.Describe(datums, *weights_, options_.token_budget, top_k); });
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackwardPreference(absl::Span<const Datum> datums,
                                                                  const PreferenceConfig& config,
                                                                  bool gradient) override {
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    const PreferenceLoss* loss = nullptr;
    RFT_RETURN_IF_ERROR(TryTorch([&] { loss = &FindPreferenceLoss(config.name); }));
    RFT_RETURN_IF_ERROR(ValidatePreference(datums, *loss));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    auto result = TryTorch([&] {
      at::AutoGradMode recording(gradient);
      if (gradient) parameters().EnableGradients();
      const uint64_t masks = gradient ? ++num_passes_ : 0;
      ForwardBackwardResult result;
      result.logprobs = EmptyRows(datums);
      double denominator = 0.0;
      for (const auto& [begin, end] : PreferenceChunks(datums, *loss, options_.token_budget)) {
        const absl::Span<const Datum> chunk = datums.subspan(begin, end - begin);
        const MicroBatch batch = MakeMicroBatches(chunk, INT64_MAX)[0];
        const auto weights = gradient ? WeightsInTraining(batch, masks) : weights_;
        const ops::CheckpointScope scope(options_.checkpoint_every);
        Routing routing = forward_.MakeRouting(chunk, batch);
        const at::Tensor logprobs_N = forward_.Logprobs(*weights, batch, routing);
        const PreferenceOutput output =
            loss->forward(PreferenceInputs(chunk, batch, logprobs_N, *loss), config);
        result.loss_sum += output.sum.item<double>();
        denominator += output.denominator;
        for (const auto& [name, value] : output.metric_sums) result.metrics[name] += value;
        result.num_tokens += static_cast<int64_t>(batch.predictions.size());
        result.num_computed_tokens += static_cast<int64_t>(batch.ids.size());
        const float* values = Data<float>(logprobs_N);
        for (size_t i = 0; i < batch.predictions.size(); ++i)
          result.logprobs[begin + batch.predictions[i].datum][batch.predictions[i].token] =
              values[i];
        if (gradient) Backward(output.sum, result.finite);
      }
      result.num_rows = static_cast<int64_t>(datums.size());
      result.metrics["loss"] = result.loss_sum;
      for (auto& [name, value] : result.metrics) value /= std::max(1.0, denominator);
      if (gradient) denominator_ += denominator;
      return result;
    });
    return gradient ? Accumulating(std::move(result)) : result;
  }

  absl::StatusOr<ForwardBackwardResult> ForwardBackwardDistillation(
      absl::Span<const Datum> datums, const Description& teacher,
      const DistillationConfig& config) override {
    RFT_RETURN_IF_ERROR(CheckNotEmpty(datums));
    RFT_RETURN_IF_ERROR(forward_.Validate(datums));
    RFT_RETURN_IF_ERROR(ValidateTeacher(datums, teacher, model_->config().vocab_size));
    RFT_RETURN_IF_ERROR(CheckTrainsAlone());
    return Accumulating(TryTorch([&] {
      parameters().EnableGradients();
      const uint64_t masks = ++num_passes_;
      ForwardBackwardResult result;
      double weight_sum = 0.0;
      for (const MicroBatch& batch : MakeMicroBatches(datums, options_.token_budget)) {
        const auto weights = WeightsInTraining(batch, masks);
        const ops::CheckpointScope scope(options_.checkpoint_every);
        const TeacherTokens tokens = TeacherTokensOf(datums, batch, teacher);
        Routing routing = forward_.MakeRouting(datums, batch);
        const at::Tensor student_NK = forward_.LogprobsOf(tokens.ids_NK, *weights, batch, routing);
        const at::Tensor sum =
            (DistillationDivergence(student_NK, tokens.logprobs_NK, config) * tokens.weights_N)
                .sum();
        result.loss_sum += sum.item<double>();
        weight_sum += tokens.weights_N.sum().item<double>();
        result.num_tokens += static_cast<int64_t>(batch.predictions.size());
        result.num_rows += static_cast<int64_t>(batch.datums.size());
        result.num_computed_tokens += static_cast<int64_t>(batch.ids.size());
        Backward(sum, result.finite);
      }
      denominator_ += weight_sum;
      result.metrics["divergence"] = weight_sum > 0.0 ? result.loss_sum / weight_sum : 0.0;
      return result;
    }));
  }

  absl::StatusOr<OptimStepResult> OptimStep(const AdamParams& params) override {
    if (!accumulated_)
      return absl::FailedPreconditionError(
          "optim_step: no gradient has been accumulated; call forward_backward first");
    RFT_RETURN_IF_ERROR(Optimizer::Check(params));
    return TryTorch([&] {
      ParameterStore& trained = parameters();
      OptimStepResult result;
      const double scale = denominator_ > 0.0 ? 1.0 / denominator_ : 1.0;
      result.grad_norm = Optimizer::Norm(trained.grads()) * scale;
      result.skipped = poisoned_ || !std::isfinite(result.grad_norm);
      if (result.skipped) {
        ZeroGrad();
      } else {
        const double clip =
            params.grad_clip_norm > 0 && result.grad_norm > params.grad_clip_norm
                ? params.grad_clip_norm / (result.grad_norm + 1e-6)  // as torch's clip_grad_norm_
                : 1.0;
        ChangeWeights([&] { PackVersion(optimizer().BeginStep(trained, scale * clip, params)); });
        ForgetPasses();
      }
      result.version = weights_->version();
      return result;
    });
  }

  void ZeroGrad() override {
    parameters().ZeroGradients();
    ForgetPasses();
  }

  absl::Status SaveState(const std::string& dir) override { return SaveStateShard(dir, 0, 1); }
  absl::Status SaveStateShard(const std::string& dir, int64_t index, int64_t count) override {
    return TryStatus([&] {
      return SaveTrainerState(dir, parameters(), optimizer(), {index, count});
    });
  }
  absl::Status LoadState(const std::string& dir) override {
    RFT_RETURN_IF_ERROR(CheckFrozenBase());
    return TryStatus([&] {
      return ChangeWeights([&]() -> absl::Status {
        RFT_RETURN_IF_ERROR(LoadTrainerState(dir, parameters(), optimizer()));
        PackVersion({});
        ZeroGrad();
        return absl::OkStatus();
      });
    });
  }
  absl::Status SaveModel(const std::string& dir) override {
    if (options_.adapter) return options_.adapter->SaveMerged(dir, SaveDtype::kBFloat16);
    return rft::SaveModel(*model_, dir, SaveDtype::kBFloat16);
  }
  absl::Status SaveAdapter(const std::string& dir) override {
    return options_.adapter ? options_.adapter->Save(dir) : Trainer::SaveAdapter(dir);
  }
  absl::Status SaveDelta(const std::string& dir) override {
    return options_.adapter ? options_.adapter->Save(dir) : rft::SaveDelta(*model_, dir);
  }
  absl::StatusOr<std::shared_ptr<const PublishedWeights>> SaveWeightsForSampler() override {
    if (model_->device().is_cpu()) return weights_;
    RFT_ASSIGN_OR_RETURN(SamplerCopy * copy, sampler_copy());
    return copy->Update(weights_->version());
  }
  absl::StatusOr<std::shared_ptr<CausalLm>> SamplerModel() override {
    if (model_->device().is_cpu()) return model_;
    RFT_ASSIGN_OR_RETURN(SamplerCopy * copy, sampler_copy());
    return copy->model();
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

  std::shared_ptr<CausalLm> model() const override { return model_; }
  std::shared_ptr<LoraAdapter> adapter() const override { return options_.adapter; }
  ParameterStore& parameters() const override {
    return options_.adapter ? options_.adapter->parameters() : model_->parameters();
  }
  absl::Status Follow(const Trainer& other, double decay) override {
    RFT_RETURN_IF_ERROR(CheckFrozenBase());
    at::Tensor &own = parameters().values(), &theirs = other.parameters().values();
    if (own.numel() != theirs.numel() || !(decay >= 0.0 && decay <= 1.0))
      return absl::InvalidArgumentError(
          "follow: needs a trainer of the same parameters and a decay from 0 to 1");
    return TryTorch([&] {
      ChangeWeights([&] {
        own.mul_(decay).add_(theirs.to(own.device()), 1.0 - decay);
        PackVersion({});
      });
    });
  }
  absl::StatusOr<std::optional<double>> CheckExport(const std::string& dir,
                                                    absl::Span<const Datum> datums) override {
    return rft::CheckExport(*this, options_, dir, datums);
  }
  absl::StatusOr<MemoryPlan> PlanMemory(const MemoryWorkload& workload,
                                        int64_t limit_bytes) override {
    if (!model_->device().is_cpu())
      return absl::FailedPreconditionError(
          "plan_memory: knows the CPU's memory; on another device set trainer.token_budget");
    RFT_ASSIGN_OR_RETURN(MemoryPlan plan,
                         rft::PlanMemory(*model_, options_, workload, limit_bytes));
    options_.token_budget = plan.token_budget;
    return plan;
  }
  int64_t num_steps() const override { return optimizer_ ? optimizer_->num_steps() : 0; }

 private:
  // The current weights; with the adapter's dropout, if it has some. The result must outlive the backward.
  std::shared_ptr<const ModelWeights> WeightsInTraining(const MicroBatch& batch,
                                                        uint64_t pass) const {
    if (!options_.adapter || options_.adapter->config().dropout == 0.0) return weights_;
    return WithDropout(*weights_, options_.adapter->config(), num_steps(), pass, batch);
  }

  // A base that another trainer trains would collect the adapter's gradients as its own.
  absl::Status CheckFrozenBase() const {
    if (options_.frozen)
      return absl::FailedPreconditionError("trainer: a frozen reference is not trained");
    if (model_->is_int8())
      return absl::FailedPreconditionError(
          "trainer: int8 weights are for judges and references; load it with dtype bf16 or fp32");
    if (options_.adapter && model_->parameters().grads().defined())
      return absl::FailedPreconditionError(
          "trainer: another trainer trains this adapter's base; give it a model of its own");
    return absl::OkStatus();
  }

  // And nobody else trains the same parameters between this trainer's steps: gradients and versions are theirs, too.
  absl::Status CheckTrainsAlone() {
    RFT_RETURN_IF_ERROR(CheckFrozenBase());
    if (weights_ != (options_.adapter ? options_.adapter->weights() : model_->weights()))
      return absl::FailedPreconditionError(
          "trainer: somebody else has changed these weights; make a new trainer of them");
    if (const void* owner = parameters().gradient_owner(); owner != nullptr && owner != this)
      return absl::FailedPreconditionError(
          "trainer: another trainer's gradient is in use; call its optim_step or zero_grad first");
    return absl::OkStatus();
  }

  // Adds to the gradient; a non-finite loss poisons the step instead.
  void Backward(const at::Tensor& sum, bool& finite) {
    const SerialOpenMp serial;
    if (std::isfinite(sum.item<double>())) {
      if (sum.requires_grad()) sum.backward();
    } else {
      finite = false;
      poisoned_ = true;
    }
  }

  absl::StatusOr<ForwardBackwardResult> Accumulating(absl::StatusOr<ForwardBackwardResult> result) {
    parameters().set_gradient_owner(this);
    accumulated_ = true;
    if (!result.ok()) ZeroGrad();
    return result;
  }

  void ForgetPasses() {
    if (parameters().gradient_owner() == this) parameters().set_gradient_owner(nullptr);
    denominator_ = 0.0;
    accumulated_ = poisoned_ = false;
    num_passes_ = 0;
  }

  absl::StatusOr<SamplerCopy*> sampler_copy() {
    if (options_.frozen)
      return absl::FailedPreconditionError(
          "trainer: a frozen reference on another device only scores");
    if (!sampler_copy_) {
      RFT_ASSIGN_OR_RETURN(sampler_copy_, SamplerCopy::Create(*model_, options_.adapter));
    }
    return sampler_copy_.get();
  }

  // Gradients and moments are allocated when first needed: a model that only scores (a KL reference) never pays for them.
  Optimizer& optimizer() {
    if (!optimizer_) optimizer_.emplace(parameters(), options_.optimizer);
    return *optimizer_;
  }

  // Takes the memory of the next version, which may be that of the current one, then calls `change`: it moves the parameters and
  // calls PackVersion. Memory that runs out does so before, with parameters and optimizer as they were; if no new version comes of
  // it, the current one stays.
  template <typename F>
  std::invoke_result_t<F> ChangeWeights(F&& change) {
    const absl::Cleanup keep_current = [this] {
      if (!weights_) weights_ = options_.adapter ? options_.adapter->weights() : model_->weights();
    };
    weights_.reset();  // lets its memory be reused when nobody samples from it any more
    if (options_.adapter)
      options_.adapter->ReserveVersion();
    else
      model_->ReserveVersion();
    return change();
  }
  // The parameters, moved by `update` if there is one, as the new version.
  void PackVersion(const ValueUpdate& update) {
    if (!options_.adapter) {
      weights_ = model_->PackNewVersion(update);
      return;
    }
    if (update) parameters().Update(update);
    weights_ = options_.adapter->PackNewVersion();
  }

  std::shared_ptr<CausalLm> model_;
  TrainerOptions options_;
  std::optional<Optimizer> optimizer_;
  PackedForward forward_;
  std::shared_ptr<const ModelWeights> weights_;
  std::unique_ptr<SamplerCopy> sampler_copy_;  // where the model is not on the CPU
  std::unique_ptr<InferenceEngine> engine_;    // of Sample
  double denominator_ = 0.0;
  uint64_t num_passes_ = 0;  // since the last clear
  bool accumulated_ = false;
  bool poisoned_ = false;  // a NaN or Inf was seen since the last clear
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
  if (!model->device().is_cpu() && options.optimizer.state != "fp32")
    return absl::InvalidArgumentError(absl::StrCat(
        "trainer.optimizer_state: ", options.optimizer.state, " is for trainer.device cpu only"));
  if (options.adapter && options.adapter->base() != model)
    return absl::InvalidArgumentError("trainer: the adapter belongs to another model");
  KeepFreedMemory();
  return TryTorch([&]() -> std::unique_ptr<Trainer> {
    return std::make_unique<LocalTrainer>(std::move(model), options);
  });
}

}  // namespace rft
