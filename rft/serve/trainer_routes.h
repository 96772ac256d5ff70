// The routes for trainers that roll out on this server: weights, adapters, pausing, the prefix cache. vLLM's names, SGLang's
// beside them.
// Thread safety: handlers may run on any thread. What is referred to must outlive it.
#pragma once

#include <memory>

#include "rft/api/inference_engine.h"
#include "rft/serve/adapters_control.h"
#include "rft/serve/metrics.h"
#include "rft/serve/pause_gate.h"
#include "rft/serve/routes.h"
#include "rft/serve/weights_control.h"

namespace rft::serve {

class TrainerRoutes {
 public:
  TrainerRoutes(InferenceEngine& engine, WeightsControl& weights, AdaptersControl& adapters,
                PauseGate& gate, Metrics& metrics, const ServeLimits& limits)
      : engine_(engine),
        weights_(weights),
        adapters_(adapters),
        gate_(gate),
        metrics_(metrics),
        limits_(limits) {}

  // `this` must outlive `routes`.
  void AddTo(Routes& routes);

 private:
  absl::Status Weights(const Request& request, const Client& client);
  absl::Status UpdateWeights(const Request& request, const Client& client);
  absl::Status LoadAdapter(const Request& request, const Client& client);
  absl::Status UnloadAdapter(const Request& request, const Client& client);
  absl::Status Pause(const Request& request, const Client& client);
  absl::Status Resume(const Request& request, const Client& client);
  absl::Status IsPaused(const Request& request, const Client& client);
  absl::Status ResetPrefixCache(const Request& request, const Client& client);
  absl::Status WorldSize(const Request& request, const Client& client);

  InferenceEngine& engine_;
  WeightsControl& weights_;
  AdaptersControl& adapters_;
  PauseGate& gate_;
  Metrics& metrics_;
  const ServeLimits limits_;
};

}  // namespace rft::serve
