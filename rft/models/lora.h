// LoRA adapters on a frozen base (2106.09685; rank-stabilised scale: 2312.03732).
//
//   CausalLm (base, frozen) --weights()--> ModelWeights v
//        ^ shared by any number of
//   LoraAdapter (fp32 A, B; gradients) --PackNewVersion--> ModelWeights: the base's tensors + the adapter's packed copies
//
// An adapter's version is an ordinary ModelWeights: the engine publishes it, the trainer computes with it, and nothing of the
// base is copied. Rows of one batch may use different adapters (MixAdapters). Parameter names are PEFT's.
// Thread safety: as CausalLm: published versions may be used from several threads, what writes belongs to one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/models/causal_lm.h"
#include "rft/tensor/low_rank.h"

namespace rft {

struct LoraConfig {
  int64_t rank = 16;
  double alpha = 32.0;
  double dropout = 0.0;  // on the adapter's input, in training only
  // Module names ("q_proj"; experts' included) or groups: "attention" (q, k, v, o, or those of the latents), "mlp" (gate, up, down of dense layers and
  // shared experts), "all" (both), "experts" (each routed one has its own), "router": of a group, what the model has.
  // "embed_tokens" and "lm_head" are two modules also where the head is the embedding (as in PEFT): each has its own adapter.
  std::vector<std::string> targets = {"all"};
  bool rslora = false;  // scale alpha / sqrt(rank) instead of alpha / rank
  uint64_t seed = 0;    // of A's initial values; B starts at 0

  double scale() const;
};

// A module with an adapter.
struct LoraTarget {
  std::string module;  // "model.layers.0.self_attn.q_proj"
  Parameter* base;     // of lm_head: the embedding, where the model ties them
  bool is_embedding = false;
};

// One version's packed adapter, found by the first parameter of the stacked weight that it adds to.
struct LoraWeights {
  std::unordered_map<const Parameter*, LowRank> by_weight;
  // Those of a sparse layer's experts together, by the first parameter of the first expert.
  std::unordered_map<const Parameter*, ExpertLowRank> by_experts;
  std::optional<EmbeddingLowRank> embedding;  // of the table; the head's is in by_weight
};

class LoraAdapter {
 public:
  // Errors: kInvalidArgument for a bad rank, alpha or dropout, and for a target that no module of the base has (lists them).
  static absl::StatusOr<std::shared_ptr<LoraAdapter>> Create(std::shared_ptr<CausalLm> base,
                                                             const LoraConfig& config);
  // A folder as `peft` writes it: adapter_config.json, adapter_model.safetensors. Which modules it has is read from the tensors.
  // Errors: as LoadModel; kInvalidArgument for what is not supported (DoRA, biases, modules_to_save, rank patterns).
  static absl::StatusOr<std::shared_ptr<LoraAdapter>> Load(std::shared_ptr<CausalLm> base,
                                                           const std::string& dir);
  // Such a folder: `peft.PeftModel.from_pretrained` loads it. float32. The folder is created.
  absl::Status Save(const std::string& dir) const;
  // The base's parameter with its adapter added in float32: W + s B A. The masters are only read.
  at::Tensor Merged(const Parameter& parameter) const;
  // What lm_head.weight is in the merged model if its head can no longer be the embedding: one of the two is adapted.
  std::optional<at::Tensor> MergedOwnHead() const;
  // A Hugging Face folder of the merged model, as SaveModel writes it.
  absl::Status SaveMerged(const std::string& dir, SaveDtype dtype) const;

  // The same adapter on another copy of its base, at the values it has now.
  std::shared_ptr<LoraAdapter> On(std::shared_ptr<CausalLm> base) const;

  // As CausalLm's. A version keeps the base's version it was made over.
  std::shared_ptr<const ModelWeights> PackNewVersion(int64_t number = 0);
  void ReserveVersion();
  std::shared_ptr<const ModelWeights> weights();

  ParameterStore& parameters() { return *parameters_; }
  const ParameterStore& parameters() const { return *parameters_; }
  const LoraConfig& config() const { return config_; }
  const std::shared_ptr<CausalLm>& base() const { return base_; }
  // The modules that are adapted.
  std::vector<LoraTarget> targets() const;

 private:
  struct Pair {
    LoraTarget target;
    Parameter *a, *b;
  };
  LoraAdapter(std::shared_ptr<CausalLm> base, LoraConfig config, std::vector<LoraTarget> targets);
  void MoveToBase();  // its parameters to where the base's are
  // value + s B A; for an embedding with the roles of rows and columns as PEFT has them.
  at::Tensor Plus(const at::Tensor& value, const Pair& pair) const;
  void Pack(LoraWeights& weights, const ModelWeights& base) const;

  std::shared_ptr<CausalLm> base_;
  LoraConfig config_;
  std::unique_ptr<ParameterStore> parameters_;
  std::vector<Pair> pairs_;
  std::shared_ptr<const ModelWeights> current_;
  std::shared_ptr<ModelWeights> reserved_;  // the next one, and its part of it; null: not yet made
  std::shared_ptr<LoraWeights> reserved_lora_;
  int64_t last_version_ = 0;
};

// Rows [begin, begin + count) of the packed stream computed with `weights`: a version of the base or of one of its adapters.
struct AdapterRows {
  int64_t begin = 0, count = 0;
  std::shared_ptr<const ModelWeights> weights;
};
// One ModelWeights for a batch whose rows use different adapters of one base version. c10::Error if the bases differ.
std::shared_ptr<const ModelWeights> MixAdapters(absl::Span<const AdapterRows> rows);

// The base version's tensors under `weights`: itself, or what an adapter was made over.
const ModelWeights* BaseOf(const ModelWeights& weights);

// What the trainer's rows have on the head: REQUIRES that one adapter at most is mixed in.
HeadAdapter AdapterOfHead(const ModelWeights& weights);
// Adds to logits_NV (float32) what adapters add to the head of hidden_NH, of which row i is row rows_N[i] (ascending) of the batch.
void AddHeadAdapters(const at::Tensor& logits_NV, const at::Tensor& hidden_NH,
                     absl::Span<const int64_t> rows_N, const ModelWeights& weights);

// Whether a row computes the same with these adapters wherever it is in the batch.
bool AdaptsAllRowsAlike(const ModelWeights& weights);

// What models call instead of ops::Embedding of the version's table.
at::Tensor LoraEmbedding(const at::Tensor& ids_T, Parameter* table, const ModelWeights& weights);
// What models call instead of ops::Linear and ops::LinearAdd: the same, plus the adapters of this version.
at::Tensor LoraLinear(const at::Tensor& x_TK, const Weight& weight, const ModelWeights& weights);
at::Tensor LoraLinearAdd(const at::Tensor& x_TK, const Weight& weight,
                         const at::Tensor& residual_TN, const ModelWeights& weights);
// LoraLinear of ops::RmsNorm(x), `residual_TH` as there; LoraLinearAdd of ops::SwiGlu(gate_up).
at::Tensor LoraNormLinear(const at::Tensor& x_TH, const at::Tensor& norm_H, Parameter* parameter,
                          double eps, const Weight& weight, const ModelWeights& weights,
                          at::Tensor* residual_TH = nullptr);
at::Tensor LoraSwiGluLinearAdd(const at::Tensor& gate_up_T2I, const Weight& weight,
                               const at::Tensor& residual_TN, const ModelWeights& weights);
// The same in place of ops::ExpertsAdd.
at::Tensor LoraExpertsAdd(const at::Tensor& x_TH, const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK, const ExpertWeights& experts,
                          const at::Tensor& residual_TH, const ModelWeights& weights);

}  // namespace rft
