// What a forward is told about routing and what it tells: experts to replay in; experts used, sums for metrics and a penalty on
// the router out. One object per forward; it must live until the backward of that forward is done.
//
// Shapes: T tokens of the forward, M mixture-of-experts layers in order (dense ones aren't counted), E experts, K per token.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/router_config.h"

namespace rft {

// Sums over (token, layer) pairs. "Probabilities" are softmax(logits), or sigmoids divided by their sum.
struct RoutingSums {
  double pairs = 0;
  double replayed = 0;  // pairs whose experts were given
  double changed = 0;   // of those: the router would have chosen others now
  double weight_drift =
      0;  // of those: gate weight that lies on other experts than now (half the L1 distance)
  double entropy = 0;                // nats, of the probabilities
  double squared_log_sum = 0;        // log(sum exp logits)^2
  std::vector<double> chosen;        // [E] pairs that use the expert
  std::vector<double> probability;   // [E]
  std::vector<double> layer_chosen;  // [M * E]

  void Add(const RoutingSums& other);
  // E sum_e f_e P_e, as transformers' load_balancing_loss_func over the layers of this forward: K when balanced.
  double LoadBalance() const;
  // Mean over layers of the busiest expert's load, relative to an even one: 1 when balanced.
  double MaxLoad() const;
};

// Added to the router's gradient: weight * (load_balance * LoadBalance + z * mean squared_log_sum), of this forward.
struct RouterPenalty {
  double load_balance = 0, z = 0;  // coefficients
  double weight = 1;               // read during the backward: set it before
};

struct Routing {
  // In: int32 [T, M, K], ascending in each row: experts to use instead of the router's choice. Their gate weights are
  // computed from the current logits, so the router still gets its gradient. A row that starts with -1 is the router's own
  // choice; undefined: all are.
  at::Tensor replay_TMK;
  RouterPenalty penalty;
  bool capture = false;    // fill used_TMK
  bool summarize = false;  // fill sums (needed by a penalty)

  // Out: int32 [T, M, K], the experts used, ascending in each row.
  at::Tensor used_TMK;
  RoutingSums sums;
};

// Whether it tells (or penalises) what every token does in every layer.
bool NeedsAllTokens(const Routing* routing);
// What it asks of the tokens rows_N [N] (int64) alone; sums begin at zero.
Routing RoutingOfRows(const Routing& routing, const at::Tensor& rows_N);

// The experts of sparse layer `index` of `num_layers`: the router's choice, or what is replayed. Writes what `routing` (may be
// null) wants to know. logits_TE and bias_E as ops::ChooseExperts; no gradient.
at::Tensor ChooseOrReplay(const at::Tensor& logits_TE, const at::Tensor& bias_E,
                          const RouterConfig& config, int64_t index, int64_t num_layers,
                          Routing* routing);

// logits_TE, with the penalty's gradient added in the backward, when all layers' sums are known.
at::Tensor WithPenalty(const at::Tensor& logits_TE, const RouterConfig& config, Routing* routing);

}  // namespace rft
