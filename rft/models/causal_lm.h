// A decoder-only language model: fp32 master parameters, and the packed compute copy that sampler and trainer share.
//
//   ParameterStore (fp32 arena, gradients)  --Pack-->  ModelWeights version v (compute dtype, immutable)
//        ^ optim_step writes here                          ^ published to the engine, used by every forward
//
// One forward for training, prefill and decode: what differs is the AttentionContext handed in.
// Adding an architecture: one file with RFT_REGISTER_MODEL("XForCausalLM", ...) at its end (rft/models/README.md).
// Thread safety: forward is const and may run in several threads over published versions; everything that writes
// parameters (LoadWeights, PackNewVersion, the optimizer) belongs to one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "rft/core/published_weights.h"
#include "rft/core/registry.h"
#include "rft/core/routes.h"
#include "rft/models/indexer.h"
#include "rft/models/latent_attention.h"
#include "rft/models/model_config.h"
#include "rft/models/parameter_store.h"
#include "rft/models/rope.h"
#include "rft/models/routing.h"
#include "rft/tensor/attention.h"
#include "rft/tensor/experts.h"
#include "rft/tensor/weight.h"

namespace rft {

class CausalLm;
struct LoraWeights;
struct LowRankDropout;

// One version's compute copy. Immutable once published; reference-counted.
struct ModelWeights : PublishedWeights {
  struct Layer {
    at::Tensor input_norm_H, post_norm_H;  // float32 copies
    at::Tensor q_norm_D, k_norm_D;         // undefined where the family has none
    Weight qkv, output;                    // qkv: [q; kv] of latent attention
    LatentWeights latent;                  // empty otherwise
    IndexerWeights indexer;                // of layers that choose the keys they attend to
    Weight gate_up, down;                  // dense layers, and the shared expert of sparse ones
    // Sparse layers only. The router is float32 whatever the compute dtype.
    Weight router;
    at::Tensor correction_bias_E;
    ExpertWeights experts;
    ExpertWeights
        gated_shared;  // a shared expert with a gate of its own: one expert, weighted like the others
    Weight shared_gate;  // float32 [1, H]
  };
  int64_t version_number = 0;
  const CausalLm* model =
      nullptr;  // whose it is; must outlive it (whoever holds weights holds the model too)
  at::Tensor embedding_VH;  // compute dtype
  std::vector<Layer> layers;
  at::Tensor final_norm_H;
  Weight head;  // [V, H]; the embedding's own rows when tied

  // Adapters over these weights (rft/models/lora.h): which rows of a batch use which. Usually none, or one for all rows.
  struct Lora {
    int64_t begin = 0, count = -1;  // -1: to the end
    std::shared_ptr<const LoraWeights> weights;
    std::shared_ptr<const LowRankDropout> dropout;       // null outside of training
    std::shared_ptr<const LowRankDropout> head_dropout;  // the same, by the rows that predict
  };
  std::vector<Lora> lora;
  std::shared_ptr<const ModelWeights> base;  // of an adapter's version: whose tensors these are

  int64_t version() const override { return version_number; }
};

class CausalLm : public std::enable_shared_from_this<CausalLm> {
 public:
  virtual ~CausalLm() = default;

  // Final hidden states (after the last norm), compute dtype [T, H], of packed tokens. ids_T, positions_T: int64.
  // Gradients as in rft/tensor/ops.h. Rows are batch-invariant bit for bit. `routing` may be null (and is ignored by
  // dense models). rows_N: int64, the rows that the caller reads, in any order and more than once; then the result is [N, H].
  // What only other rows need isn't computed: of the last layer, all that follows its attention (RoutingSums count such
  // tokens as not routed there).
  virtual at::Tensor forward(const ModelWeights& weights, const at::Tensor& ids_T,
                             const at::Tensor& positions_T, AttentionContext& attention,
                             Routing* routing, const at::Tensor& rows_N = {}) const = 0;

  // Packs the current master parameters into a new version (number = last + 1) and makes it current. Reuses the memory of
  // a version that nobody holds any more. `update`, if given, is applied to all masters on the way. `number`, if not 0, is the
  // version's number instead: a copy's versions are numbered as those they are copies of.
  std::shared_ptr<const ModelWeights> PackNewVersion(const ValueUpdate& update = {},
                                                     int64_t number = 0);
  // Makes sure that the next PackNewVersion has memory to write to, and so can't run out of it half-way. Nothing else changes.
  void ReserveVersion();
  // The current version. Packed on first use.
  std::shared_ptr<const ModelWeights> weights();

  // The versions made from now on live there (rft/models/device.h), and the parameters unless they are offloaded
  // (ParameterStore). c10::Error for int8 weights, which are for the CPU, and once there is a version.
  void MoveTo(at::Device device, bool offload = false);
  at::Device device() const { return parameters_->device(); }

  const ModelConfig& config() const { return config_; }
  int64_t num_sparse_layers() const;  // mixture-of-experts layers; 0 for a dense model
  RouteCodec route_codec() const;
  at::ScalarType dtype() const { return dtype_; }  // of activations
  // Of the linear layers: dtype(), or kChar for a model loaded as int8. Such a model computes in bf16, scores and samples, and
  // is never trained or given new weights.
  at::ScalarType weight_dtype() const { return weight_dtype_; }
  bool is_int8() const { return weight_dtype_ == at::kChar; }
  ParameterStore& parameters() { return *parameters_; }
  const ParameterStore& parameters() const { return *parameters_; }
  HeadLayout head_layout() const {
    return {.num_heads = config_.num_heads,
            .num_kv_heads = config_.num_kv_heads,
            .head_dim = config_.head_dim,
            .index_dim = config_.indexer ? config_.indexer->dim : 0};
  }
  // Whether the checkpoint had its experts stacked (stacked_experts.h): SaveModel writes them back that way.
  bool stacked_experts() const { return stacked_experts_; }
  void set_stacked_experts(bool stacked) { stacked_experts_ = stacked; }
  // Folder that the model came from ("" for a random one): its tokenizer files are copied by SaveModel.
  const std::string& source_dir() const { return source_dir_; }
  void set_source_dir(std::string dir) { source_dir_ = std::move(dir); }

 protected:
  CausalLm(ModelConfig config, at::ScalarType dtype);
  // Fills (or refills) a version from the masters. `update`, which only comes with a version that has been filled before, is
  // called once for every element of every parameter before it is read.
  virtual void Pack(ModelWeights& weights, const ValueUpdate& update) = 0;

  ModelConfig config_;
  at::ScalarType dtype_, weight_dtype_;
  std::unique_ptr<ParameterStore> parameters_;
  RopeTable rope_;

 private:
  std::shared_ptr<ModelWeights>* FreeVersion();  // one that nobody holds; null: there is none

  std::vector<std::shared_ptr<ModelWeights>>
      versions_;  // current one last; others are reused when released
  std::string source_dir_;
  bool stacked_experts_ = false;
  int64_t last_version_ = 0;
};

using ModelRegistry =
    Registry<absl::StatusOr<std::shared_ptr<CausalLm>>, const ModelConfig&, at::ScalarType>;
#define RFT_REGISTER_MODEL(architecture, factory)    \
  static const bool rft_registered_model_##factory = \
      ::rft::ModelRegistry::Get().Add(architecture, factory)

// The stacked weights of the layers, in order: what adapters can be put on.
std::vector<const Weight*> LinearWeights(const ModelWeights& weights);

// --- Hugging Face folders (rft/models/hf_folder.cc) ---

// Reads config.json and the safetensors (single or sharded; bf16, fp16, fp32) of `dir`. dtype: compute dtype, kFloat or
// kBFloat16; or kChar, for bf16 with int8 weights (CausalLm::weight_dtype). A delta is a folder, too (delta_folder.h).
// Errors: kNotFound (a missing file or tensor, by name), kInvalidArgument (unknown architecture: lists the known ones; a missing
// or misshapen tensor, by name; NaN or Inf in a tensor; pickle files), kResourceExhausted.
absl::StatusOr<std::shared_ptr<CausalLm>> LoadModel(const std::string& dir, at::ScalarType dtype);

// A model of random weights (normal, std config.initializer_range; norms 1) from the text of a config.json.
absl::StatusOr<std::shared_ptr<CausalLm>> CreateRandomModel(const std::string& config_json,
                                                            at::ScalarType dtype, uint64_t seed);

enum class SaveDtype { kFloat32, kBFloat16 };
// Writes config.json, safetensors (sharded above 4 GB) and copies the tokenizer, template and generation files of
// source_dir; `transformers` loads the result. The folder is created; existing files of these names are replaced.
// `value_of`, if given, is asked for what to write in place of a parameter's own value (an adapter merged into it);
// `own_head`, if given, becomes the lm_head of a model that is saved as one whose head is not its embedding.
absl::Status SaveModel(const CausalLm& model, const std::string& dir, SaveDtype dtype,
                       const std::function<at::Tensor(const Parameter&)>& value_of = {},
                       const std::optional<at::Tensor>& own_head = std::nullopt);

}  // namespace rft
