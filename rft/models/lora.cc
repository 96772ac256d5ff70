#include "rft/models/lora.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/rng.h"
#include "rft/models/lora_internal.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

// "q_proj" of "model.layers.0.self_attn.q_proj.weight".
std::string_view ModuleName(std::string_view parameter) {
  parameter.remove_suffix(sizeof(".weight") - 1);
  return parameter.substr(parameter.rfind('.') + 1);
}

const std::vector<std::string>& Modules(const std::string& group) {
  static const std::vector<std::string> kNone,
      kAttention = {"q_proj", "k_proj", "v_proj", "o_proj"},
      kMlp = {"gate_proj", "up_proj", "down_proj"},
      kAll = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  if (group == "attention") return kAttention;
  if (group == "mlp") return kMlp;
  return group == "all" ? kAll : kNone;
}

bool IsWanted(const std::string& parameter, const std::string& target) {
  const std::string_view module = ModuleName(parameter);
  const bool expert = parameter.find(".experts.") != std::string::npos;
  if (target == "experts") return expert;
  if (target == "router") return module == "gate";
  const std::vector<std::string>& group = Modules(target);
  if (group.empty()) return module == target;
  return !expert && std::find(group.begin(), group.end(), module) != group.end();
}

absl::StatusOr<std::vector<Parameter*>> FindTargets(CausalLm& base, const LoraConfig& config) {
  std::vector<Parameter*> all, targets;
  std::set<std::string, std::less<>> present;
  for (const Weight* weight : LinearWeights(*base.weights()))
    for (Parameter* part : weight->parts) {
      all.push_back(part);
      present.emplace(ModuleName(part->name));
    }
  for (const std::string& target : config.targets)
    if (std::none_of(all.begin(), all.end(),
                     [&](const Parameter* p) { return IsWanted(p->name, target); }))
      return absl::InvalidArgumentError(absl::StrCat(
          "lora.targets: the model has no module '", target, "' that can be adapted; it has ",
          absl::StrJoin(present, ", "), ", and the groups attention, mlp, all",
          base.num_sparse_layers() > 0 ? ", experts, router" : ""));
  for (Parameter* p : all)
    if (std::any_of(config.targets.begin(), config.targets.end(),
                    [&](const std::string& target) { return IsWanted(p->name, target); }))
      targets.push_back(p);
  if (targets.empty())
    return absl::InvalidArgumentError(
        "lora.targets: is empty; name modules, or attention, mlp, all");
  return targets;
}

// A as torch's Linear starts (kaiming_uniform with a = sqrt(5)): uniform in +-1 / sqrt(K).
void InitializeA(const Parameter& a, uint64_t seed, uint64_t index) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(a.value.size(1)));
  float* values = Data<float>(a.value);
  for (int64_t i = 0; i < a.value.numel(); ++i) {
    const double u =
        static_cast<double>(BitsAt(seed, 0x6c6f7261 + index, static_cast<uint64_t>(i)) >> 11) *
        0x1.0p-53;
    values[i] = static_cast<float>((2.0 * u - 1.0) * bound);
  }
}

}  // namespace

double LoraConfig::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

absl::Status ValidateLora(const LoraConfig& config) {
  if (config.rank < 1 || config.rank > 4096)
    return absl::InvalidArgumentError(
        absl::StrCat("lora.rank: ", config.rank, " is not in 1 .. 4096"));
  if (!(config.alpha > 0.0) || std::isinf(config.alpha))
    return absl::InvalidArgumentError("lora.alpha: must be above 0");
  if (!(config.dropout >= 0.0) || !(config.dropout < 1.0))
    return absl::InvalidArgumentError("lora.dropout: must be in [0, 1)");
  return absl::OkStatus();
}

std::string LoraTensorName(const Parameter& base, char which) {
  const std::string_view module(base.name.data(), base.name.size() - (sizeof(".weight") - 1));
  return absl::StrCat("base_model.model.", std::string(module), ".lora_", std::string(1, which),
                      ".weight");
}

LoraAdapter::LoraAdapter(std::shared_ptr<CausalLm> base, LoraConfig config,
                         std::vector<Parameter*> targets)
    : base_(std::move(base)), config_(std::move(config)) {
  std::vector<ParameterStore::Spec> specs;
  for (const Parameter* p : targets) {
    specs.push_back({LoraTensorName(*p, 'A'), {config_.rank, p->value.size(1)}});
    specs.push_back({LoraTensorName(*p, 'B'), {p->value.size(0), config_.rank}});
  }
  parameters_ = std::make_unique<ParameterStore>(specs);
  for (size_t i = 0; i < targets.size(); ++i)
    pairs_.push_back({targets[i], &parameters_->all()[2 * i], &parameters_->all()[2 * i + 1]});
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Create(std::shared_ptr<CausalLm> base,
                                                                 const LoraConfig& config) {
  if (auto status = ValidateLora(config); !status.ok()) return status;
  auto targets = FindTargets(*base, config);
  if (!targets.ok()) return targets.status();
  return TryTorch([&] {
    auto adapter =
        std::shared_ptr<LoraAdapter>(new LoraAdapter(std::move(base), config, *std::move(targets)));
    for (size_t i = 0; i < adapter->pairs_.size(); ++i)
      InitializeA(*adapter->pairs_[i].a, config.seed, i);
    return adapter;
  });
}

std::vector<const Parameter*> LoraAdapter::targets() const {
  std::vector<const Parameter*> all;
  for (const Pair& pair : pairs_) all.push_back(pair.base);
  return all;
}

void LoraAdapter::Pack(LoraWeights& weights, const ModelWeights& base) const {
  std::unordered_map<const Parameter*, const Pair*> of;
  for (const Pair& pair : pairs_) of[pair.base] = &pair;
  uint64_t site = 0;
  for (const Weight* weight : LinearWeights(base)) {
    LowRank low_rank;
    low_rank.rank = config_.rank;
    low_rank.k = weight->k;
    low_rank.scale = static_cast<float>(config_.scale());
    low_rank.dtype = weight->packed.scalar_type();  // a router is float32
    low_rank.site = site++;
    int64_t column = 0;
    for (const Parameter* part : weight->parts) {
      if (const auto it = of.find(part); it != of.end())
        low_rank.parts.push_back(
            {.column = column, .n = 0, .a = it->second->a, .b = it->second->b, .b_packed = {}});
      column += part->value.size(0);
    }
    if (low_rank.parts.empty()) continue;
    low_rank.Repack();
    weights.by_weight.emplace(weight->parts[0], std::move(low_rank));
  }
  const auto find = [&](const Weight& weight) -> const LowRank* {
    const auto it = weights.by_weight.find(weight.parts[0]);
    return it == weights.by_weight.end() ? nullptr : &it->second;  // stays where it is
  };
  for (const ModelWeights::Layer& layer : base.layers)
    for (const ExpertWeights* experts : {&layer.gated_shared, &layer.experts}) {
      ExpertLowRank low_rank;
      bool any = false;
      for (int64_t e = 0; e < experts->num_experts(); ++e) {
        low_rank.gate_up.push_back(find(experts->gate_up[e]));
        low_rank.down.push_back(find(experts->down[e]));
        any = any || low_rank.gate_up.back() || low_rank.down.back();
      }
      if (any) weights.by_experts.emplace(experts->gate_up[0].parts[0], std::move(low_rank));
    }
}

std::shared_ptr<const ModelWeights> LoraAdapter::PackNewVersion() {
  const auto base = base_->weights();
  auto packed = std::make_shared<LoraWeights>();
  Pack(*packed, *base);
  auto next = std::make_shared<ModelWeights>(*base);
  next->base = base;
  next->version_number = ++last_version_;
  next->lora = {{.begin = 0, .count = -1, .weights = std::move(packed), .dropout = nullptr}};
  current_ = std::move(next);
  return current_;
}

std::shared_ptr<const ModelWeights> LoraAdapter::weights() {
  return current_ ? current_ : PackNewVersion();
}

at::Tensor LoraAdapter::Merged(const Parameter& parameter) const {
  const auto pair = std::find_if(pairs_.begin(), pairs_.end(),
                                 [&](const Pair& p) { return p.base->name == parameter.name; });
  if (pair == pairs_.end()) return parameter.value;
  const int64_t n = parameter.value.size(0), k = parameter.value.size(1), r = config_.rank;
  at::Tensor merged = parameter.value.clone();
  const at::Tensor scaled = pair->b->value * config_.scale();
  at::Tensor packed = at::empty({PackedElements<float>(r, k)}, at::kFloat);
  rft::Pack(RowsSource(Data<float>(pair->a->value), k), r, k, Data<float>(packed));
  GemmToFloat(Data<float>(scaled), r, Data<float>(packed), n, r, k, Data<float>(merged), k, true);
  return merged;
}

absl::Status LoraAdapter::SaveMerged(const std::string& dir, SaveDtype dtype) const {
  return SaveModel(*base_, dir, dtype, [this](const Parameter& p) { return Merged(p); });
}

const ModelWeights* BaseOf(const ModelWeights& weights) {
  return weights.base ? weights.base.get() : &weights;
}

std::shared_ptr<const ModelWeights> MixAdapters(absl::Span<const AdapterRows> rows) {
  TORCH_CHECK(!rows.empty(), "adapters: an empty batch");
  const ModelWeights* base = BaseOf(*rows[0].weights);
  auto mixed = std::make_shared<ModelWeights>(*base);
  mixed->base = rows[0].weights->base ? rows[0].weights->base : rows[0].weights;
  for (const AdapterRows& r : rows) {
    TORCH_CHECK(BaseOf(*r.weights) == base, "adapters: made over different versions of the base");
    for (const ModelWeights::Lora& lora : r.weights->lora)
      mixed->lora.push_back({r.begin, r.count, lora.weights, nullptr});
  }
  return mixed;
}

namespace {

void AddAdapters(at::Tensor& y, const at::Tensor& x, const Weight& weight,
                 const ModelWeights& weights) {
  for (const ModelWeights::Lora& lora : weights.lora) {
    const auto it = lora.weights->by_weight.find(weight.parts[0]);
    if (it == lora.weights->by_weight.end()) continue;
    const int64_t count = lora.count < 0 ? x.size(0) - lora.begin : lora.count;
    y = ops::AddLowRank(y, x, it->second, lora.begin, count, lora.dropout.get());
  }
}

}  // namespace

at::Tensor LoraLinear(const at::Tensor& x_TK, const Weight& weight, const ModelWeights& weights) {
  at::Tensor y = ops::Linear(x_TK, weight);
  AddAdapters(y, x_TK, weight, weights);
  return y;
}

at::Tensor LoraLinearAdd(const at::Tensor& x_TK, const Weight& weight,
                         const at::Tensor& residual_TN, const ModelWeights& weights) {
  at::Tensor y = ops::LinearAdd(x_TK, weight, residual_TN);
  AddAdapters(y, x_TK, weight, weights);
  return y;
}

at::Tensor LoraExpertsAdd(const at::Tensor& x_TH, const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK, const ExpertWeights& experts,
                          const at::Tensor& residual_TH, const ModelWeights& weights) {
  std::vector<ExpertAdapter> adapters;
  for (const ModelWeights::Lora& lora : weights.lora) {
    const auto it = lora.weights->by_experts.find(experts.gate_up[0].parts[0]);
    if (it == lora.weights->by_experts.end()) continue;
    adapters.push_back({lora.begin, lora.count, &it->second, lora.dropout.get()});
  }
  return ops::ExpertsAdd(x_TH, experts_TK, weights_TK, experts, residual_TH, adapters);
}

}  // namespace rft
