#include "rft/train/replay.h"

#include <algorithm>

#include <ATen/ops/full.h>

#include "absl/strings/str_cat.h"
#include "rft/core/check.h"
#include "rft/tensor/dispatch.h"

namespace rft {
namespace {

absl::Status Invalid(size_t datum, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("datums[", datum, "].routes: ", std::string(what)));
}

}  // namespace

absl::Status ValidateRoutes(absl::Span<const Datum> datums, const RouteCodec& codec) {
  std::vector<int32_t> experts(codec.token_experts());
  for (size_t i = 0; i < datums.size(); ++i) {
    const TokenRoutes& routes = datums[i].routes;
    if (routes.empty()) continue;
    const size_t n = datums[i].ids.size();
    if (codec.token_bytes() == 0) return Invalid(i, "this model has no mixture-of-experts layers");
    if (routes.packed.size() != n * codec.token_bytes())
      return Invalid(i, absl::StrCat("has ", routes.packed.size(), " bytes; ", n, " tokens of ",
                                     codec.token_bytes(), " bytes are needed"));
    if (!routes.known.empty() && routes.known.size() != n)
      return Invalid(i, absl::StrCat("known has ", routes.known.size(), " entries, ids has ", n));
    for (size_t t = 1; t < n; ++t) {
      if (!routes.has(static_cast<int64_t>(t))) continue;
      const absl::Status valid =
          codec.Decode(routes.packed.data() + t * codec.token_bytes(), experts.data());
      if (!valid.ok()) return Invalid(i, absl::StrCat("token ", t, ": ", valid.message()));
    }
  }
  return absl::OkStatus();
}

at::Tensor ReplayedExperts(absl::Span<const Datum> datums, const MicroBatch& batch,
                           const RouteCodec& codec) {
  at::Tensor replay;
  const auto num_tokens = static_cast<int64_t>(batch.ids.size());
  for (int64_t i = 0; i < num_tokens; ++i) {
    const Datum& d = datums[batch.owners[i]];
    const int64_t token = batch.positions[i] + 1;
    if (token >= static_cast<int64_t>(d.ids.size()) || !d.routes.has(token)) continue;
    if (!replay.defined())
      replay = at::full({num_tokens, codec.num_layers(), codec.top_k()}, -1, at::kInt);
    RFT_CHECK(codec
                  .Decode(d.routes.packed.data() + token * codec.token_bytes(),
                          Data<int32_t>(replay) + i * codec.token_experts())
                  .ok());
  }
  return replay;
}

std::vector<TokenRoutes> EmptyRoutes(absl::Span<const Datum> datums, const RouteCodec& codec) {
  std::vector<TokenRoutes> routes;
  if (codec.token_bytes() == 0) return routes;
  for (const Datum& d : datums) {
    TokenRoutes& row = routes.emplace_back();
    row.packed.assign(d.ids.size() * codec.token_bytes(), 0);
    row.known.assign(d.ids.size(), 0);
  }
  return routes;
}

void ScatterRoutes(absl::Span<const Datum> datums, const MicroBatch& batch,
                   const at::Tensor& used_TMK, const RouteCodec& codec,
                   std::vector<TokenRoutes>& routes) {
  auto write = [&](int64_t datum, int64_t row, int64_t position) {
    const int64_t token = position + 1;
    if (token >= static_cast<int64_t>(datums[datum].ids.size())) return;
    routes[datum].known[token] = 1;
    codec.Encode(Data<int32_t>(used_TMK) + row * codec.token_experts(),
                 routes[datum].packed.data() + token * codec.token_bytes());
  };
  for (size_t i = 0; i < batch.ids.size(); ++i)
    write(batch.owners[i], static_cast<int64_t>(i), batch.positions[i]);
  // A shared prefix was computed for its first datum: the others have the same.
  for (const PackedSequence& s : batch.sequences)
    for (int64_t p = 0; s.count > 0 && p < s.prefix_count; ++p)
      if (batch.owners[s.begin] != batch.owners[s.prefix_begin])
        write(batch.owners[s.begin], s.prefix_begin + p, p);
}

void AddRoutingMetrics(const RoutingSums& sums, std::map<std::string, double>& metrics) {
  if (sums.pairs == 0) return;
  metrics["router_entropy"] = sums.entropy / sums.pairs;
  metrics["router_max_load"] = sums.MaxLoad();
  metrics["router_load_balance"] = sums.LoadBalance();
  metrics["router_z"] = sums.squared_log_sum / sums.pairs;
  if (sums.replayed == 0) return;
  metrics["routing_changed"] = sums.changed / sums.replayed;
  metrics["routing_weight_drift"] = sums.weight_drift / sums.replayed;
}

}  // namespace rft
