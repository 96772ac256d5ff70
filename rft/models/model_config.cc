#include "rft/models/model_config.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/io/json.h"
#include "rft/models/config_json.h"

namespace rft {
namespace {

// Sliding windows as transformers reads them: Qwen's behind use_sliding_window, Mistral's wherever sliding_window is set; on
// the layers that layer_types names, else on those from max_window_layers on.
std::vector<int64_t> LayerWindows(ConfigJson& r, const ModelConfig& c) {
  std::vector<int64_t> windows;
  const bool always = c.model_type == "mistral";
  if (!r.Bool("use_sliding_window", always && r.Find("sliding_window"))) return windows;
  const int64_t window = r.Int("sliding_window", {}, 1, 1 << 26);
  const int64_t from = always ? 0 : r.Int("max_window_layers", 28, 0, 4096);
  windows.assign(c.num_layers, 0);
  const json::value* types = r.Find("layer_types");
  if (types &&
      (!types->is_array() || static_cast<int64_t>(types->get_array().size()) != c.num_layers)) {
    r.Fail("layer_types", "must name a type for each layer");
    return windows;
  }
  for (int64_t l = 0; l < c.num_layers; ++l) {
    if (!types) {
      windows[l] = l >= from ? window : 0;
      continue;
    }
    const json::value& type = types->get_array()[l];
    if (type == "sliding_attention")
      windows[l] = window;
    else if (type != "full_attention")
      r.Fail("layer_types", "supported are sliding_attention and full_attention");
  }
  return windows;
}

double YarnScale(double factor, double m) {
  return factor > 1.0 ? 0.1 * m * std::log(factor) + 1.0 : 1.0;
}

absl::StatusOr<RopeConfig> ParseRope(const json::object& config, int64_t head_dim) {
  RopeConfig rope;
  ConfigJson top(config, "config.json");
  rope.theta = top.Double("rope_theta", 10000.0);
  double rotated = top.Double("partial_rotary_factor", 1.0);
  // transformers 5 writes rope_parameters; the hub's files have rope_scaling (and may have both).
  const json::value* scaling = top.Find("rope_parameters");
  const char* key = "config.json: rope_parameters";
  if (!scaling) scaling = top.Find("rope_scaling"), key = "config.json: rope_scaling";
  if (scaling) {
    if (!scaling->is_object())
      return absl::InvalidArgumentError(absl::StrCat(key, ": must be an object"));
    ConfigJson r(scaling->get_object(), key);
    rope.type = r.Text("rope_type", r.Text("type", "default"));
    rope.theta = r.Double("rope_theta", rope.theta);
    rope.factor = r.Double("factor", 1.0);
    rotated = r.Double("partial_rotary_factor", rotated);
    rope.low_freq_factor = r.Double("low_freq_factor", 1.0);
    rope.high_freq_factor = r.Double("high_freq_factor", 4.0);
    rope.beta_fast = r.Double("beta_fast", 32.0);
    rope.beta_slow = r.Double("beta_slow", 1.0);
    rope.attention_factor = r.Double("attention_factor", 0.0);
    const double mscale = r.Double("mscale", 0.0);
    rope.mscale_all_dim = r.Double("mscale_all_dim", 0.0);
    if (rope.attention_factor == 0.0 && mscale != 0.0 && rope.mscale_all_dim != 0.0)
      rope.attention_factor =
          YarnScale(rope.factor, mscale) / YarnScale(rope.factor, rope.mscale_all_dim);
    rope.original_max_positions =
        r.Int("original_max_position_embeddings", top.Int("max_position_embeddings", 2048));
    RFT_RETURN_IF_ERROR(r.status());
    if (rope.type != "default" && rope.type != "linear" && rope.type != "llama3" &&
        rope.type != "yarn")
      return absl::InvalidArgumentError(
          absl::StrCat(key, ".rope_type: '", rope.type,
                       "' is not supported; supported: default, linear, llama3, yarn"));
    if (!(rope.factor >= 1.0))
      return absl::InvalidArgumentError(absl::StrCat(key, ".factor: must be at least 1"));
  }
  rope.rotary_dim =
      top.Int("rotary_dim", static_cast<int64_t>(static_cast<double>(head_dim) * rotated), 0, 4096);
  RFT_RETURN_IF_ERROR(top.status());
  if (rope.rotary_dim < 2 || rope.rotary_dim > head_dim || rope.rotary_dim % 2 != 0)
    return absl::InvalidArgumentError(absl::StrCat("config.json: rotary_dim: ", rope.rotary_dim,
                                                   " must be even and in 2 .. head_dim"));
  if (!(rope.theta > 0))
    return absl::InvalidArgumentError("config.json: rope_theta: must be positive");
  return rope;
}

// The text_config's keys over those of the outer part, which has a few of its own.
json::object TextSettings(const json::object& config, const json::object& text) {
  json::object merged = config;
  merged.erase("text_config");
  merged.erase("vision_config");
  for (const auto& [key, value] : text)
    if (!value.is_null() && key != "architectures" &&
        !(key == "tie_word_embeddings" && merged.contains(key)))
      merged[key] = value;
  return merged;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& config_json,
                                             const std::string& generation_json) {
  auto parsed = ParseJson(config_json);
  if (!parsed.ok())
    return absl::InvalidArgumentError(absl::StrCat("config.json: ", parsed.status().message()));
  if (!parsed->is_object()) return absl::InvalidArgumentError("config.json: must be a JSON object");
  ModelConfig c;
  c.json = config_json;
  const json::value* text = parsed->get_object().if_contains("text_config");
  c.is_part = text && text->is_object();
  const json::object object =
      c.is_part ? TextSettings(parsed->get_object(), text->get_object()) : parsed->get_object();
  c.text_json = ToJson(object);
  ConfigJson r(object, "config.json");
  const json::value* architectures = r.Find("architectures");
  if (!architectures || !architectures->is_array() || architectures->get_array().empty() ||
      !architectures->get_array()[0].is_string())
    return absl::InvalidArgumentError(
        "config.json: architectures: missing; expected e.g. [\"LlamaForCausalLM\"]");
  c.architecture = std::string(architectures->get_array()[0].get_string());
  c.model_type = r.Text("model_type", "");
  c.vocab_size = r.Int("vocab_size", {}, 1, 1 << 24);
  c.hidden_size = r.Int("hidden_size", {}, 1, 1 << 20);
  c.intermediate_size = r.Int("intermediate_size", {}, 1, 1 << 22);
  c.num_layers = r.Int("num_hidden_layers", {}, 1, 4096);
  c.num_heads = r.Int("num_attention_heads", {}, 1, 4096);
  c.num_kv_heads = r.Int("num_key_value_heads", c.num_heads, 1, 4096);
  c.head_dim = r.Int("head_dim", c.hidden_size / std::max<int64_t>(c.num_heads, 1), 2, 4096);
  c.max_positions = r.Int("max_position_embeddings", 2048, 1, 1 << 26);
  c.rms_norm_eps = r.Double("rms_norm_eps", 1e-6);
  c.tie_word_embeddings = r.Bool("tie_word_embeddings", false);
  c.initializer_range = r.Double("initializer_range", 0.02);
  c.end_ids = r.Ids("eos_token_id");
  if (c.num_heads % c.num_kv_heads != 0)
    r.Fail("num_key_value_heads", "must divide num_attention_heads");
  if (c.head_dim % 2 != 0) r.Fail("head_dim", "must be even");
  if (r.Text("hidden_act", "silu") != "silu") r.Fail("hidden_act", "only silu is supported");
  if (r.Bool("attention_bias", false)) r.Fail("attention_bias", "biases are not supported");
  if (r.Bool("mlp_bias", false)) r.Fail("mlp_bias", "biases are not supported");
  c.layer_windows = LayerWindows(r, c);
  RFT_RETURN_IF_ERROR(r.status());
  if (const json::value* quantization = r.Find("quantization_config")) {
    RFT_ASSIGN_OR_RETURN(c.quantization, ReadQuantization(*quantization));
  }
  RFT_ASSIGN_OR_RETURN(c.rope, ParseRope(object, c.head_dim));
  if (!generation_json.empty()) {
    auto generation = ParseJson(generation_json);
    if (!generation.ok() || !generation->is_object())
      return absl::InvalidArgumentError("generation_config.json: not a JSON object");
    ConfigJson g(generation->get_object(), "generation_config.json");
    std::vector<TokenId> ids = g.Ids("eos_token_id");
    RFT_RETURN_IF_ERROR(g.status());
    if (!ids.empty()) c.end_ids = std::move(ids);
  }
  for (TokenId id : c.end_ids)
    if (id < 0 || id >= c.vocab_size)
      return absl::InvalidArgumentError(
          absl::StrCat("config.json: eos_token_id: ", id, " is outside the vocabulary"));
  return c;
}

}  // namespace rft
