#include "losses/preference_loss.h"

#include <mutex>

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_sigmoid.h>
#include <c10/util/Exception.h>

namespace rft {

const PreferenceLoss& FindPreferenceLoss(std::string_view name) {
  static std::mutex* mutex = new std::mutex;
  static auto* losses = new std::map<std::string, std::unique_ptr<PreferenceLoss>>;
  std::lock_guard<std::mutex> lock(*mutex);
  std::unique_ptr<PreferenceLoss>& loss = (*losses)[std::string(name)];
  if (loss == nullptr) {
    const auto* factory = PreferenceLossRegistry::Get().Find(name);
    std::string known;
    for (const std::string& n : PreferenceLossRegistry::Get().Names())
      known += (known.empty() ? "" : ", ") + n;
    TORCH_CHECK(factory != nullptr, "unknown preference loss '", std::string(name),
                "'; known: ", known);
    loss = (*factory)();
  }
  return *loss;
}

at::Tensor Chosen(const at::Tensor& values_R) { return values_R.view({-1, 2}).select(1, 0); }
at::Tensor Rejected(const at::Tensor& values_R) { return values_R.view({-1, 2}).select(1, 1); }

at::Tensor SmoothedLogistic(const at::Tensor& x, double smoothing) {
  if (smoothing == 0.0) return -at::log_sigmoid(x);
  return -at::log_sigmoid(x) * (1.0 - smoothing) - at::log_sigmoid(-x) * smoothing;
}

PreferenceOutput PairedOutput(const PreferenceInput& input, const PreferenceConfig& config,
                              const at::Tensor& losses_P, const at::Tensor& rewards_R) {
  PreferenceOutput output;
  output.sum = losses_P.sum();
  if (config.sft_coef != 0.0)
    output.sum =
        output.sum - (Chosen(input.logps_R) / Chosen(input.tokens_R)).sum() * config.sft_coef;
  output.denominator = static_cast<double>(losses_P.numel());
  const at::Tensor rewards = rewards_R.detach(), chosen = Chosen(rewards),
                   rejected = Rejected(rewards);
  output.metric_sums["accuracy"] = chosen.gt(rejected).sum().item<double>();
  output.metric_sums["margin"] = (chosen - rejected).sum().item<double>();
  output.metric_sums["reward_chosen"] = chosen.sum().item<double>();
  output.metric_sums["reward_rejected"] = rejected.sum().item<double>();
  return output;
}

}  // namespace rft
