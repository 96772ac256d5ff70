#include "rft/models/lora.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/rng.h"
#include "rft/models/lora_internal.h"
#include "rft/models/random_normal.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

constexpr std::string_view kAttention[] = {
    "q_proj",   "k_proj", "v_proj", "o_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa",
    "kv_b_proj"};
constexpr std::string_view kMlp[] = {"gate_proj", "up_proj", "down_proj"};

bool IsWanted(const LoraTarget& one, const std::string& target) {
  const std::string module = ModuleName(one);
  const bool expert = one.module.find(".experts.") != std::string::npos;
  if (target == "experts") return expert;
  if (target == "router") return module == "gate";
  if (target != "attention" && target != "mlp" && target != "all") return module == target;
  const bool attention = std::ranges::count(kAttention, module) > 0,
             mlp = std::ranges::count(kMlp, module) > 0;
  return !expert && ((attention && target != "mlp") || (mlp && target != "attention"));
}

absl::StatusOr<std::vector<LoraTarget>> FindTargets(CausalLm& base, const LoraConfig& config) {
  const std::vector<LoraTarget> all = Adaptable(base);
  std::vector<LoraTarget> targets;
  std::set<std::string> present;
  for (const LoraTarget& one : all) present.insert(ModuleName(one));
  for (const std::string& target : config.targets)
    if (std::none_of(all.begin(), all.end(),
                     [&](const LoraTarget& one) { return IsWanted(one, target); }))
      return absl::InvalidArgumentError(absl::StrCat(
          "lora.targets: the model has no module '", target, "' that can be adapted; it has ",
          absl::StrJoin(present, ", "), ", and the groups attention, mlp, all",
          base.num_sparse_layers() > 0 ? ", experts, router" : ""));
  for (const LoraTarget& one : all)
    if (std::any_of(config.targets.begin(), config.targets.end(),
                    [&](const std::string& target) { return IsWanted(one, target); }))
      targets.push_back(one);
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

// B of an embedding's adapter starts normal and A at 0, as PEFT's do: the columns of A that no batch has used stay 0.
void InitializeEmbeddingB(const Parameter& b, uint64_t seed, uint64_t index) {
  float* values = Data<float>(b.value);
  for (int64_t i = 0; i < b.value.numel(); ++i)
    values[i] =
        static_cast<float>(NormalFrom(BitsAt(seed, 0x6c6f7261 + index, static_cast<uint64_t>(i))));
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

std::vector<LoraTarget> Adaptable(CausalLm& base) {
  std::vector<LoraTarget> all;
  const auto weights = base.weights();
  for (const Weight* weight : LinearWeights(*weights))
    for (Parameter* part : weight->parts)
      all.push_back({part->name.substr(0, part->name.rfind('.')), part});
  const std::string embedding = base.config().body + ".embed_tokens";
  all.push_back({embedding, base.parameters().Find(embedding + ".weight"), true});
  all.push_back({base.config().head, weights->head.parts[0]});
  return all;
}

std::string ModuleName(const LoraTarget& target) {
  return target.module.substr(target.module.rfind('.') + 1);
}

std::string LoraTensorName(const LoraTarget& target, char which) {
  return absl::StrCat("base_model.model.", target.module,
                      target.is_embedding ? ".lora_embedding_" : ".lora_", std::string(1, which),
                      target.is_embedding ? "" : ".weight");
}

LoraAdapter::LoraAdapter(std::shared_ptr<CausalLm> base, LoraConfig config,
                         std::vector<LoraTarget> targets)
    : base_(std::move(base)), config_(std::move(config)) {
  std::vector<ParameterStore::Spec> specs;
  for (const LoraTarget& t : targets) {
    const int64_t out = t.base->value.size(t.is_embedding ? 1 : 0),
                  in = t.base->value.size(t.is_embedding ? 0 : 1);
    specs.push_back({LoraTensorName(t, 'A'), {config_.rank, in}});
    specs.push_back({LoraTensorName(t, 'B'), {out, config_.rank}});
  }
  parameters_ = std::make_unique<ParameterStore>(specs);
  for (size_t i = 0; i < targets.size(); ++i)
    pairs_.push_back(
        {std::move(targets[i]), &parameters_->all()[2 * i], &parameters_->all()[2 * i + 1]});
}

absl::StatusOr<std::shared_ptr<LoraAdapter>> LoraAdapter::Create(std::shared_ptr<CausalLm> base,
                                                                 const LoraConfig& config) {
  if (auto status = ValidateLora(config); !status.ok()) return status;
  auto targets = FindTargets(*base, config);
  if (!targets.ok()) return targets.status();
  return TryTorch([&] {
    auto adapter =
        std::shared_ptr<LoraAdapter>(new LoraAdapter(std::move(base), config, *std::move(targets)));
    for (size_t i = 0; i < adapter->pairs_.size(); ++i) {
      const Pair& pair = adapter->pairs_[i];
      if (pair.target.is_embedding)
        InitializeEmbeddingB(*pair.b, config.seed, i);
      else
        InitializeA(*pair.a, config.seed, i);
    }
    adapter->MoveToBase();
    return adapter;
  });
}

void LoraAdapter::MoveToBase() {
  parameters_->MoveTo(base_->device(), base_->parameters().is_offloaded());
}

std::shared_ptr<LoraAdapter> LoraAdapter::On(std::shared_ptr<CausalLm> base) const {
  std::vector<LoraTarget> same = targets();
  for (LoraTarget& target : same) target.base = base->parameters().Find(target.base->name);
  auto adapter =
      std::shared_ptr<LoraAdapter>(new LoraAdapter(std::move(base), config_, std::move(same)));
  adapter->MoveToBase();
  adapter->parameters_->values().copy_(parameters_->values());
  return adapter;
}

std::vector<LoraTarget> LoraAdapter::targets() const {
  std::vector<LoraTarget> all;
  for (const Pair& pair : pairs_) all.push_back(pair.target);
  return all;
}

void LoraAdapter::Pack(LoraWeights& weights, const ModelWeights& base) const {
  std::unordered_map<const Parameter*, const Pair*> of;
  for (const Pair& pair : pairs_) {
    if (!pair.target.is_embedding)
      of[pair.target.base] = &pair;
    else
      weights.embedding.emplace(pair.a, pair.b, static_cast<float>(config_.scale()));
  }
  uint64_t site = 0;
  std::vector<const Weight*> adaptable = LinearWeights(base);
  adaptable.push_back(&base.head);
  for (const Weight* weight : adaptable) {
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

void LoraAdapter::ReserveVersion() {
  const auto base = base_->weights();
  if (reserved_ && reserved_->base == base) return;
  auto packed = std::make_shared<LoraWeights>();
  Pack(*packed, *base);
  auto next = std::make_shared<ModelWeights>(*base);
  next->base = base;
  next->lora = {
      {.begin = 0, .count = -1, .weights = packed, .dropout = nullptr, .head_dropout = nullptr}};
  reserved_lora_ = std::move(packed);
  reserved_ = std::move(next);
}

std::shared_ptr<const ModelWeights> LoraAdapter::PackNewVersion(int64_t number) {
  const auto before = reserved_;
  ReserveVersion();
  if (reserved_ == before) {  // filled earlier, with other values
    for (auto& [weight, low_rank] : reserved_lora_->by_weight) low_rank.Repack();
    if (reserved_lora_->embedding) reserved_lora_->embedding->Repack();
  }
  last_version_ = number > 0 ? number : last_version_ + 1;
  reserved_->version_number = last_version_;
  reserved_lora_ = nullptr;
  current_ = std::move(reserved_);
  return current_;
}

std::shared_ptr<const ModelWeights> LoraAdapter::weights() {
  return current_ ? current_ : PackNewVersion();
}

at::Tensor LoraAdapter::Plus(const at::Tensor& value, const Pair& pair) const {
  // An embedding's A is [r, V] and its B [H, r]: what is added is (B A)^T.
  const at::Tensor a = pair.a->value.cpu(), b = pair.b->value.cpu();
  const at::Tensor left = pair.target.is_embedding ? a.t() : b;
  const at::Tensor right = pair.target.is_embedding ? b.t().contiguous() : a;
  const int64_t n = value.size(0), k = value.size(1), r = config_.rank;
  at::Tensor sum = value.cpu().clone();
  const at::Tensor scaled = (left * config_.scale()).contiguous();
  at::Tensor packed = at::empty({PackedElements<float>(r, k)}, at::kFloat);
  rft::Pack(RowsSource(Data<float>(right), k), r, k, Data<float>(packed));
  GemmToFloat(Data<float>(scaled), r, Data<float>(packed), n, r, k, Data<float>(sum), k, true);
  return sum;
}

at::Tensor LoraAdapter::Merged(const Parameter& parameter) const {
  for (const Pair& pair : pairs_) {
    const bool own_head =
        ModuleName(pair.target) == "lm_head" && base_->config().tie_word_embeddings;
    if (pair.target.base->name == parameter.name && !own_head) return Plus(parameter.value, pair);
  }
  return parameter.value;
}

std::optional<at::Tensor> LoraAdapter::MergedOwnHead() const {
  if (!base_->config().tie_word_embeddings) return std::nullopt;
  std::optional<at::Tensor> head;
  for (const Pair& pair : pairs_) {
    if (ModuleName(pair.target) == "lm_head") return Plus(pair.target.base->value, pair);
    if (pair.target.is_embedding) head = pair.target.base->value;
  }
  return head;
}

absl::Status LoraAdapter::SaveMerged(const std::string& dir, SaveDtype dtype) const {
  auto own_head = TryTorch([&] { return MergedOwnHead(); });
  if (!own_head.ok()) return own_head.status();
  return SaveModel(
      *base_, dir, dtype, [this](const Parameter& p) { return Merged(p); }, *own_head);
}

}  // namespace rft
