// What config.json says, in one form for both spellings (the hub's and transformers 5's). Torch-free.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/core/types.h"
#include "rft/models/quantized_weights.h"
#include "rft/tensor/router_config.h"

namespace rft {

struct RopeConfig {
  std::string type = "default";  // "default", "linear", "llama3", "yarn"
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_max_positions = 8192;                 // llama3, yarn
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  int64_t rotary_dim = 0;         // leading dims of a head that rotate; 0 = all
  double attention_factor = 0.0;  // yarn; 0 = 0.1 ln(factor) + 1
  double mscale_all_dim = 0.0;    // yarn; latent attention scales its scores by it
};

// Mixture-of-experts layers: set by the families that have them (rft/models/moe_config.h reads it).
struct MoeConfig {
  RouterConfig router;
  int64_t expert_intermediate = 0;
  int64_t shared_intermediate = 0;  // width of the expert that all tokens pass through; 0 = none
  bool shared_gate = false;         // its output is multiplied by sigmoid(a learned projection)
  std::vector<bool> sparse_layers;  // [num_layers]: false = a dense feed-forward layer
  // Names between "<body>.layers.N." and ".weight".
  std::string block = "mlp", gate = "gate_proj", up = "up_proj", down = "down_proj";
  std::string shared = "shared_experts", correction_bias = "gate.e_score_correction_bias";
};

// Latent attention: set by the families that have it (rft/models/latent_attention.h).
struct LatentConfig {
  int64_t q_rank = 0;  // 0: queries come straight from the hidden states
  int64_t kv_rank = 0;
  int64_t nope = 0, rope = 0,
          value = 0;        // dims of a head: of its key without and with rotation, of its value
  bool interleaved = true;  // pairs (2i, 2i + 1) rotate, otherwise (i, i + rope / 2)
  double scale = 0.0;       // of the scores
};

// Of attention to selected keys: set by the families that have it (rft/models/indexer.h).
struct IndexerConfig {
  int64_t heads = 0, dim = 0;
  int64_t top_k = 0;        // keys that a token attends to, at most
  bool interleaved = true;  // as LatentConfig's, of the indexer's own heads
  std::vector<bool>
      choosing;  // [num_layers]: false = a layer attends to what the one before it chose
};

struct ModelConfig {
  std::string architecture;  // architectures[0]
  std::string model_type;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t max_positions = 2048;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  std::vector<int64_t>
      layer_windows;  // keys visible in each layer, 0 = all; empty: all in every layer
  double initializer_range = 0.02;  // standard deviation of random weights (CreateRandomModel)
  RopeConfig rope;
  std::vector<TokenId> end_ids;  // eos of generation_config.json, else of config.json
  std::optional<MoeConfig> moe;  // nullopt: dense
  std::optional<LatentConfig> latent;
  std::optional<IndexerConfig> indexer;
  std::optional<StoredQuantization> quantization;  // of the checkpoint's linear layers
  std::string json;  // the file as it was read: SaveModel writes it back
  // What the language model reads of it: all, or, of a model that sees, too, its text_config over what the outer part says.
  std::string text_json;
  bool is_part = false;  // the latter: the checkpoint has tensors of other parts
  // Names of its tensors in the checkpoint: "<body>.layers.0...", "<head>.weight".
  std::string body = "model", head = "lm_head";

  std::string LayerPrefix(int64_t layer) const { return body + ".layers." + std::to_string(layer); }
};

// Errors: kInvalidArgument naming the key ("config.json: hidden_size: missing") or an unsupported feature
// ("rope_scaling.rope_type 'dynamic' is not supported; supported: default, linear, llama3, yarn").
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& config_json,
                                             const std::string& generation_json = "");

}  // namespace rft
