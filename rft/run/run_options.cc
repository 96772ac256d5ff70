#include "rft/run/run_options.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "rft/config/config_reader.h"
#include "rft/config/schedule.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr double kSilenceS = 600.0;

AdvantageOptions AdvantageFor(const RunConfig& config, AdvantageKind kind) {
  AdvantageOptions options;
  options.kind = kind;
  options.eps = config.advantage.eps;
  options.clip = config.advantage.clip;
  options.difficulty_weight = config.advantage.difficulty_weight;
  options.k = config.advantage.k;
  options.level =
      config.advantage.level == "turn" ? AdvantageLevel::kTurn : AdvantageLevel::kRollout;
  options.turn_discount = config.advantage.turn_discount;
  return options;
}

}  // namespace

absl::Status CheckRunConfig(const RunConfig& config) {
  if (!(config.rollout.temperature > 0.0)) {
    return absl::InvalidArgumentError(AtKey(config, "rollout.temperature",
                                            "must be above 0 for training: greedy completions of "
                                            "one prompt are all the same and teach nothing"));
  }
  if (config.rollout.min_tokens > config.rollout.max_tokens) {
    return absl::InvalidArgumentError(
        AtKey(config, "rollout.min_tokens",
              absl::StrCat(config.rollout.min_tokens, " is more than rollout.max_tokens (",
                           config.rollout.max_tokens, ")")));
  }
  if (const auto grammars = GrammarsOf(config.rollout); grammars.size() > 1) {
    return absl::InvalidArgumentError(
        AtKey(config, grammars[1].first,
              absl::StrCat("and ", grammars[0].first,
                           " are both set: a completion follows one grammar; leave one out")));
  }
  if (config.advantage.kind == "pass-at-k" && config.advantage.k >= config.rollout.group_size) {
    return absl::InvalidArgumentError(AtKey(
        config, "advantage.k",
        absl::StrCat(config.advantage.k, " of rollout.group_size (", config.rollout.group_size,
                     ") completions: it must be less, there would be nothing to compare with")));
  }
  return absl::OkStatus();
}

SamplingParams SamplingFor(const RunConfig& config) {
  SamplingParams sampling;
  sampling.temperature = config.rollout.temperature;
  sampling.top_k = static_cast<int32_t>(config.rollout.top_k);
  sampling.top_p = config.rollout.top_p;
  sampling.min_p = config.rollout.min_p;
  sampling.max_tokens = static_cast<int32_t>(config.rollout.max_tokens);
  sampling.min_tokens = static_cast<int32_t>(config.rollout.min_tokens);
  sampling.stop_strings = config.rollout.stop_strings;
  sampling.ignore_eos = config.rollout.ignore_eos;
  sampling.repetition_penalty = config.rollout.repetition_penalty;
  sampling.presence_penalty = config.rollout.presence_penalty;
  sampling.frequency_penalty = config.rollout.frequency_penalty;
  return sampling;
}

std::vector<std::pair<std::string, GrammarSpec>> GrammarsOf(const RolloutConfig& rollout) {
  using Kind = GrammarSpec::Kind;
  std::vector<std::pair<std::string, GrammarSpec>> set;
  for (const auto& [name, kind, text] :
       {std::tuple{"rollout.json_schema", Kind::kJsonSchema, &rollout.json_schema},
        std::tuple{"rollout.regex", Kind::kRegex, &rollout.regex},
        std::tuple{"rollout.ebnf", Kind::kEbnf, &rollout.ebnf}})
    if (!text->empty()) set.emplace_back(name, GrammarSpec{kind, *text});
  return set;
}

absl::StatusOr<std::shared_ptr<const TokenGrammar>> CompileGrammar(const RunConfig& config,
                                                                   const TextCodec& codec) {
  const auto grammars = GrammarsOf(config.rollout);
  if (grammars.empty()) return nullptr;
  const auto& [key, spec] = grammars.front();
  auto compiled = codec.CompileGrammar(spec);
  if (compiled.ok()) return compiled;
  return absl::Status(compiled.status().code(),
                      AtKey(config, key, std::string(compiled.status().message())));
}

RunnerLimits LimitsFor(const RunConfig& config) {
  RunnerLimits limits;
  limits.silence_s = kSilenceS;
  // A grader may be silent until its deadline, once for the completion it has and once for one before it.
  for (const GraderSpec& spec : config.graders)
    limits.silence_s = std::max(limits.silence_s, 2.0 * spec.deadline_s + 60.0);
  return limits;
}

absl::StatusOr<OrchestratorOptions> OrchestratorOptionsFor(const RunConfig& config) {
  OrchestratorOptions options;
  options.seed = static_cast<uint64_t>(config.seed);
  options.shuffle = config.data.shuffle;
  options.prompts_per_step = config.rollout.prompts_per_step;
  options.group_size = static_cast<int32_t>(config.rollout.group_size);
  options.max_refill_rounds = config.rollout.max_refill_rounds;
  options.sampling = SamplingFor(config);
  if (config.trainer.routing_replay == "rollout")
    options.routes = config.trainer.replay_prompt_routes ? RouteCapture::kPromptAndCompletion
                                                         : RouteCapture::kCompletion;
  options.filter.drop_zero_variance = config.filter.zero_variance;
  options.filter.tolerance = config.filter.tolerance;
  options.filter.drop_all_truncated = config.rollout.mask_truncated;
  const absl::StatusOr<AdvantageKind> advantage = AdvantageKindFromName(config.advantage.kind);
  if (!advantage.ok()) {
    return absl::InvalidArgumentError(
        AtKey(config, "advantage.kind", std::string(advantage.status().message())));
  }
  options.advantage = AdvantageFor(config, *advantage);
  options.filter.level = options.advantage.level;
  if (config.rollout.overlong_buffer > 0) {
    options.overlong = {config.rollout.max_tokens, config.rollout.overlong_buffer,
                        config.rollout.overlong_factor};
  }
  options.limits = LimitsFor(config);
  return options;
}

EvalOptions EvalOptionsFor(const RunConfig& config) {
  EvalOptions options;
  options.seed = static_cast<uint64_t>(config.seed);
  options.num_samples = static_cast<int32_t>(config.eval.samples);
  options.sampling = SamplingFor(config);
  options.sampling.temperature = config.eval_temperature();
  options.limits = LimitsFor(config);
  return options;
}

MemoryWorkload MemoryWorkloadFor(const RunConfig& config, bool keeps_version,
                                 int64_t longest_prompt, int64_t num_heldout,
                                 const EngineStats& engine) {
  constexpr int64_t kPageTokens = 16;
  const auto pages = [](int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; };
  const RolloutConfig& rollout = config.rollout;
  const int64_t completions = rollout.group_size * rollout.max_tokens;
  MemoryWorkload workload;
  workload.tokens_per_step = std::max<int64_t>(
      1, rollout.prompts_per_step / std::max<int64_t>(1, config.trainer.updates_per_step) *
             (longest_prompt + completions));
  workload.longest_row = longest_prompt + rollout.max_tokens;
  workload.predicted_part =
      static_cast<double>(completions) / static_cast<double>(longest_prompt + completions);
  workload.sampled_from = engine.pages_total > 0;
  workload.kept_versions = keeps_version ? 1 : 0;
  // A step's pages are kept for prompts that share them until the weights change; an evaluation's likewise.
  const int64_t step =
      rollout.prompts_per_step *
      (pages(longest_prompt) + rollout.group_size * (pages(rollout.max_tokens) + 1));
  const int64_t evaluation =
      num_heldout * (pages(longest_prompt) + config.eval.samples * (pages(rollout.max_tokens) + 1));
  workload.state_cache_bytes =
      std::min(engine.pages_total, std::max(step, evaluation)) * engine.page_bytes;
  return workload;
}

Comparison ComparisonFor(const RunConfig& config) {
  return ComparisonFor(SamplingFor(config), !GrammarsOf(config.rollout).empty());
}

UpdateOptions UpdateOptionsFor(const RunConfig& config, const LossConfig& loss, int64_t step) {
  const TrainerConfig& trainer = config.trainer;
  UpdateOptions options;
  options.loss = loss;
  options.adam.learning_rate = LearningRateAt(trainer, step);
  options.adam.beta1 = trainer.beta1;
  options.adam.beta2 = trainer.beta2;
  options.adam.eps = trainer.eps;
  options.adam.weight_decay = trainer.weight_decay;
  options.adam.grad_clip_norm = trainer.grad_clip_norm;
  options.num_updates = trainer.updates_per_step;
  options.comparison = ComparisonFor(config);
  options.datums.replay_routes = trainer.routing_replay == "rollout";
  options.replay_old_routes = trainer.routing_replay == "old-policy";
  options.datums.mask_truncated = config.rollout.mask_truncated;
  if (const auto kind = AdvantageKindFromName(config.advantage.kind); kind.ok())
    options.advantage = AdvantageFor(config, *kind);
  return options;
}

}  // namespace rft
