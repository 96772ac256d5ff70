#include "rft/models/moe_config.h"

#include <algorithm>
#include <initializer_list>

#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"

namespace rft {
namespace {

// The first of the names that the file has; the first name if it has none (which the reader then reports as missing).
std::string_view Named(const ConfigJson& r, std::initializer_list<std::string_view> names) {
  for (std::string_view name : names)
    if (r.Find(name)) return name;
  return *names.begin();
}

std::vector<bool> SparseLayers(const ModelConfig& config, ConfigJson& r) {
  const int64_t n = config.num_layers;
  std::vector<bool> sparse(n, true);
  const int64_t step = r.Int("decoder_sparse_step", 1, 1, n + 1),
                first = r.Int("first_k_dense_replace", 0, 0, n);
  for (int64_t l = 0; l < n; ++l) sparse[l] = (l + 1) % step == 0 && l >= first;
  if (const json::value* dense = r.Find("mlp_only_layers"); dense && dense->is_array())
    for (const json::value& l : dense->get_array())
      if (l.is_int64() && l.get_int64() >= 0 && l.get_int64() < n) sparse[l.get_int64()] = false;
  if (const json::value* kinds = r.Find("mlp_layer_types"); kinds && kinds->is_array()) {
    if (static_cast<int64_t>(kinds->get_array().size()) != n)
      r.Fail("mlp_layer_types", "must have one entry per layer");
    for (int64_t l = 0; l < std::min<int64_t>(n, kinds->get_array().size()); ++l)
      sparse[l] = kinds->get_array()[l] == "sparse";
  }
  return sparse;
}

}  // namespace

absl::StatusOr<bool> ReadBool(const ModelConfig& config, const std::string& key, bool fallback) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(config.text_json));
  ConfigJson r(value.get_object(), "config.json");
  const bool read = r.Bool(key, fallback);
  RFT_RETURN_IF_ERROR(r.status());
  return read;
}

absl::Status RefuseUnlessFalse(const ModelConfig& config, const std::string& key) {
  RFT_ASSIGN_OR_RETURN(const bool on, ReadBool(config, key, true));
  if (!on) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", key, ": is not supported"));
}

absl::Status RefuseIfSet(const ModelConfig& config, const std::vector<std::string>& keys) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(config.text_json));
  const ConfigJson r(value.get_object(), "config.json");
  for (const std::string& key : keys)
    if (r.Find(key))
      return absl::InvalidArgumentError(absl::StrCat("config.json: ", key, ": is not supported"));
  return absl::OkStatus();
}

absl::StatusOr<MoeConfig> ReadMoeConfig(const ModelConfig& config, MoeConfig moe) {
  RFT_ASSIGN_OR_RETURN(const json::value value, ParseJson(config.text_json));
  ConfigJson r(value.get_object(), "config.json");
  RouterConfig& router = moe.router;
  const auto experts = Named(r, {"num_experts", "n_routed_experts", "num_local_experts"});
  router.num_experts = r.Int(experts, {}, 1, 4096);
  router.top_k = r.Int("num_experts_per_tok", {}, 1, 256);
  router.renormalize = r.Bool("norm_topk_prob", router.renormalize);
  router.scale = r.Double("routed_scaling_factor", router.scale);
  router.num_groups = r.Int("n_group", 1, 1, 4096);
  router.top_groups = r.Int("topk_group", router.num_groups, 1, 4096);
  moe.expert_intermediate =
      r.Int("moe_intermediate_size", config.intermediate_size, 1, int64_t{1} << 22);
  moe.shared_intermediate =
      r.Int("shared_expert_intermediate_size",
            r.Int("n_shared_experts", 0, 0, 64) * moe.expert_intermediate, 0, int64_t{1} << 22);
  moe.sparse_layers = SparseLayers(config, r);
  if (router.num_experts % router.num_groups != 0)
    r.Fail("n_group", "must divide the number of experts");
  else if (router.top_groups > router.num_groups)
    r.Fail("topk_group", "must be at most n_group");
  else if (router.top_k > router.num_experts / router.num_groups * router.top_groups)
    r.Fail("num_experts_per_tok", "is more than the experts that can be chosen");
  RFT_RETURN_IF_ERROR(r.status());
  return moe;
}

}  // namespace rft
