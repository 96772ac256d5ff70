#include "rft/run/local_parts.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "losses/loss.h"
#include "losses/presets.h"
#include "losses/validate.h"
#include "rft/config/config_reader.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/engine/local_engine.h"
#include "rft/models/causal_lm.h"
#include "rft/models/device.h"
#include "rft/models/lora.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/try_torch.h"
#include "rft/train/trainer.h"

namespace rft {
namespace {

// "run.yaml:14: losses.name: unknown loss "grpoo"; did you mean grpo? (known: dapo, grpo)"
absl::Status UnknownName(const RunConfig& config, const std::string& key, const std::string& kind,
                         const std::string& name, const std::vector<std::string>& known) {
  const std::optional<std::string> guess = DidYouMean(name, known);
  return absl::InvalidArgumentError(
      AtKey(config, key,
            absl::StrCat("unknown ", kind, " \"", name, "\"",
                         guess ? "; did you mean " + *guess + "?" : "",
                         " (known: ", absl::StrJoin(known, ", "), ")")));
}

absl::StatusOr<at::ScalarType> ComputeType(const RunConfig& config) {
  if (config.trainer.dtype == "fp32") return at::kFloat;
  if (config.trainer.dtype == "bf16") return at::kBFloat16;
  return UnknownName(config, "trainer.dtype", "compute type", config.trainer.dtype,
                     {"bf16", "fp32"});
}

}  // namespace

absl::StatusOr<LossConfig> ResolveLoss(const RunConfig& config) {
  const std::string& name = config.losses.name;
  const absl::StatusOr<LossConfig> defaults =
      TryTorch([&]() -> LossConfig { return LossDefaults(name); });
  if (!defaults.ok()) {
    std::vector<std::string> known = LossRegistry::Get().Names();
    if (name.find('.') != std::string::npos) known = LossPresetNames();
    return UnknownName(config, "losses.name", "loss", name, known);
  }
  const LossConfig loss = config.losses.ApplyTo(*defaults);
  const absl::Status knobs = TryTorch([&] { CheckLossConfig(loss); });
  if (!knobs.ok()) {
    return absl::InvalidArgumentError(AtKey(config, "losses.name", std::string(knobs.message())));
  }
  return loss;
}

absl::StatusOr<RunParts> CreateLocalParts(const RunConfig& config,
                                          std::shared_ptr<const TextCodec> codec) {
  RunParts parts;
  RFT_ASSIGN_OR_RETURN(parts.loss, ResolveLoss(config));
  RFT_ASSIGN_OR_RETURN(const at::ScalarType dtype, ComputeType(config));
  const auto* create_engine = EngineRegistry::Get().Find(config.engine.name);
  if (create_engine == nullptr) {
    return UnknownName(config, "engine.name", "engine", config.engine.name,
                       EngineRegistry::Get().Names());
  }
  SetNumThreads(static_cast<int>(config.trainer.threads));
  TrainerOptions trainer_options;
  trainer_options.token_budget = config.trainer.token_budget;
  trainer_options.checkpoint_every = config.trainer.checkpoint_every;
  trainer_options.optimizer = {config.trainer.optimizer, config.trainer.decay_vectors,
                               config.trainer.optimizer_state};
  trainer_options.temperature = config.rollout.temperature;
  const auto device = ParseDevice(config.trainer.device);
  if (!device.ok())
    return absl::InvalidArgumentError(
        AtKey(config, "trainer.device", std::string(device.status().message())));
  if (device->is_cpu() && config.trainer.offload)
    return absl::InvalidArgumentError(
        AtKey(config, "trainer.offload",
              "is for another trainer.device than cpu, where everything is in host memory"));
  const auto load = [&]() -> absl::StatusOr<std::shared_ptr<CausalLm>> {
    RFT_ASSIGN_OR_RETURN(std::shared_ptr<CausalLm> loaded, LoadModel(config.model, dtype));
    RFT_RETURN_IF_ERROR(TryTorch([&] { loaded->MoveTo(*device, config.trainer.offload); }));
    return loaded;
  };
  RFT_ASSIGN_OR_RETURN(const std::shared_ptr<CausalLm> model, load());
  const auto adapter_on = [&](std::shared_ptr<CausalLm> base) {
    return LoraAdapter::Create(std::move(base), {.rank = config.lora.rank,
                                                 .alpha = config.lora.alpha,
                                                 .dropout = config.lora.dropout,
                                                 .targets = config.lora.targets,
                                                 .rslora = config.lora.rslora,
                                                 .seed = static_cast<uint64_t>(config.seed)});
  };
  std::unique_ptr<Trainer> reference;
  const bool moves = config.trainer.reference_decay < 1.0;
  if (parts.loss.kl_coef > 0.0) {
    TrainerOptions reference_options = trainer_options;
    std::shared_ptr<CausalLm> reference_model = model;
    if (config.trainer.reference_dtype == "int8") {
      if (moves)
        return absl::InvalidArgumentError(
            AtKey(config, "trainer.reference_dtype",
                  "int8 weights stay as they are; with trainer.reference_decay below 1 the "
                  "reference must be \"same\""));
      RFT_ASSIGN_OR_RETURN(reference_model, LoadModel(config.model, at::kChar));
    } else if (!moves) {  // one version of the weights more in memory, no second model
      reference_options.frozen = model->weights();
    } else if (config.lora.rank > 0) {
      RFT_ASSIGN_OR_RETURN(reference_options.adapter, adapter_on(model));
    } else {
      RFT_ASSIGN_OR_RETURN(reference_model, load());
    }
    reference_options.replay_routes = false;
    RFT_ASSIGN_OR_RETURN(reference, Trainer::Create(reference_model, reference_options));
  }
  trainer_options.router_load_balance_coef = config.trainer.router_load_balance_coef;
  trainer_options.router_z_coef = config.trainer.router_z_coef;
  if (config.lora.rank > 0) {
    RFT_ASSIGN_OR_RETURN(trainer_options.adapter, adapter_on(model));
  }
  RFT_ASSIGN_OR_RETURN(std::unique_ptr<Trainer> trainer, Trainer::Create(model, trainer_options));
  RFT_ASSIGN_OR_RETURN(std::shared_ptr<CausalLm> sampled, trainer->SamplerModel());
  parts.plan_memory = [trainer = trainer.get(),
                       limit = config.trainer.memory_mb << 20](const MemoryWorkload& workload) {
    return trainer->PlanMemory(workload, limit);
  };
  parts.check_export = [trainer = trainer.get()](const std::string& dir,
                                                 absl::Span<const Datum> datums) {
    return trainer->CheckExport(dir, datums);
  };
  if (reference && moves)
    parts.move_reference = [reference = reference.get(), trainer = trainer.get(),
                            decay = config.trainer.reference_decay] {
      return reference->Follow(*trainer, decay);
    };
  parts.reference = std::move(reference);
  parts.trainer = std::move(trainer);
  EngineOptions engine_options;
  engine_options.max_batch = config.engine.max_batch;
  engine_options.max_batch_tokens = config.engine.max_batch_tokens;
  engine_options.kv_memory_bytes = config.engine.kv_memory_mb << 20;
  engine_options.queue_limit = config.engine.queue_limit;
  engine_options.prefix_cache = config.engine.prefix_cache;
  engine_options.server_url = config.engine.server_url;
  engine_options.server_dialect = config.engine.server_dialect;
  engine_options.server_model = config.engine.server_model;
  engine_options.server_key_variable = config.engine.server_key_variable;
  engine_options.weights_dir = config.engine.weights_dir;
  RFT_ASSIGN_OR_RETURN(parts.engine,
                       (*create_engine)(std::move(sampled), engine_options, std::move(codec)));
  return parts;
}

}  // namespace rft
