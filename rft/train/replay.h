// Routing replay: from the routes that datums carry to the experts of a micro-batch, and back. One path for routes of the
// sampler (R3) and of the trainer's own old-policy forward (R2): both are Datum::routes.
//
// The position p of a datum uses entry p + 1, the one of the token it predicts (core/routes.h).
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "rft/api/datum.h"
#include "rft/models/routing.h"
#include "rft/train/batcher.h"

namespace rft {

// kInvalidArgument names the datum whose routes don't fit the model or aren't routes at all.
absl::Status ValidateRoutes(absl::Span<const Datum> datums, const RouteCodec& codec);

// int32 [T, M, K] for Routing::replay_TMK; undefined if no datum of the micro-batch has routes.
// REQUIRES: ValidateRoutes was ok.
at::Tensor ReplayedExperts(absl::Span<const Datum> datums, const MicroBatch& batch,
                           const RouteCodec& codec);

// Writes a micro-batch's used_TMK into the datums' rows (made by EmptyRoutes).
std::vector<TokenRoutes> EmptyRoutes(absl::Span<const Datum> datums, const RouteCodec& codec);
void ScatterRoutes(absl::Span<const Datum> datums, const MicroBatch& batch,
                   const at::Tensor& used_TMK, const RouteCodec& codec,
                   std::vector<TokenRoutes>& routes);

// Into `metrics`: router_entropy (nats), router_max_load, router_load_balance, router_z; and of replayed (token, layer) pairs
// routing_changed (fraction that the router would send elsewhere now) and routing_weight_drift.
void AddRoutingMetrics(const RoutingSums& sums, std::map<std::string, double>& metrics);

}  // namespace rft
