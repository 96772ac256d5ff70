// A trainer without a model: it counts its updates, and that is its whole state. Every log-probability it reports is that
// of a FakeAnswer (-1), plus an offset. Torch-free.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "rft/api/training_client.h"
#include "rft/core/file_system.h"
#include "rft/core/status_macros.h"
#include "tests/testing/fake_engine.h"

namespace rft::testing {

class FakeTrainer : public TrainingClient {
 public:
  // `num_updates`: counts the updates; a FakeEngine's script may look at it to get better at its task.
  explicit FakeTrainer(std::shared_ptr<std::atomic<int64_t>> num_updates)
      : num_updates_(std::move(num_updates)) {}

  absl::StatusOr<ForwardResult> Forward(absl::Span<const Datum> datums) override {
    return ForwardResult{Logprobs(datums)};
  }
  absl::StatusOr<ForwardBackwardResult> ForwardBackward(absl::Span<const Datum> datums,
                                                        const LossConfig&) override {
    calls.emplace_back(datums.begin(), datums.end());
    ForwardBackwardResult result;
    result.logprobs = Logprobs(datums);
    result.num_rows = static_cast<int64_t>(datums.size());
    for (const Datum& datum : datums) {
      for (size_t t = 0; t < datum.ids.size(); ++t) {
        result.num_tokens += datum.weights[t] != 0.0f;
        result.loss_sum += datum.weights[t] * datum.advantages[t];
      }
    }
    result.finite = finite;
    if (!finite) {
      result.not_finite_datum = static_cast<int64_t>(datums.size()) - 1;
      result.not_finite = "advantages[2] is nan";
    }
    accumulated_ = true;
    return result;
  }
  absl::StatusOr<ForwardBackwardResult> ForwardBackwardCustom(absl::Span<const Datum>,
                                                              const CustomLoss&) override {
    return absl::UnimplementedError("the fake trainer has no custom losses");
  }
  absl::StatusOr<OptimStepResult> OptimStep(const AdamParams& params) override {
    if (!accumulated_)
      return absl::FailedPreconditionError("optim_step: nothing has been accumulated");
    if (!optim_error.ok()) return optim_error;
    accumulated_ = false;
    learning_rates.push_back(params.learning_rate);
    return OptimStepResult{.grad_norm = 1.0, .version = num_updates_->fetch_add(1) + 1};
  }
  void ZeroGrad() override { accumulated_ = false; }

  absl::Status SaveState(const std::string& dir) override {
    return WriteFile(FileSystem::Default(), JoinPath(dir, "num_updates"),
                     std::to_string(num_updates_->load()));
  }
  absl::Status LoadState(const std::string& dir) override {
    RFT_ASSIGN_OR_RETURN(const std::string text,
                         FileSystem::Default().ReadFile(JoinPath(dir, "num_updates")));
    int64_t value = 0;
    if (!absl::SimpleAtoi(text, &value)) return absl::DataLossError("num_updates: not a number");
    num_updates_->store(value);
    return absl::OkStatus();
  }
  absl::Status SaveModel(const std::string& dir) override { return SaveState(dir); }
  absl::StatusOr<std::shared_ptr<const PublishedWeights>> SaveWeightsForSampler() override {
    return std::make_shared<const FakeWeights>(num_updates_->load());
  }

  std::vector<std::vector<Datum>> calls;  // of ForwardBackward
  std::vector<double> learning_rates;     // of OptimStep
  float logprob_offset = 0.0f;
  bool finite = true;        // what ForwardBackward reports
  absl::Status optim_error;  // what OptimStep returns instead

 private:
  std::vector<std::vector<float>> Logprobs(absl::Span<const Datum> datums) const {
    std::vector<std::vector<float>> all;
    for (const Datum& datum : datums) {
      std::vector<float>& row = all.emplace_back();
      for (float weight : datum.weights)
        row.push_back(weight != 0.0f ? -1.0f + logprob_offset : 0.0f);
    }
    return all;
  }

  const std::shared_ptr<std::atomic<int64_t>> num_updates_;
  bool accumulated_ = false;
};

}  // namespace rft::testing
