#include "rft/run/update.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rft/core/check.h"
#include "rft/core/status_macros.h"
#include "rollout/kl_penalty.h"

namespace rft {
namespace {

// Contiguous shares of the groups, as equal as possible; none is empty.
std::vector<DatumBatch> SplitIntoUpdates(const StepBatch& batch, const UpdateOptions& options) {
  const auto num_groups = static_cast<int64_t>(batch.groups.size());
  const int64_t parts = std::min(std::max<int64_t>(1, options.num_updates), num_groups);
  std::vector<DatumBatch> updates;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = num_groups * i / parts, end = num_groups * (i + 1) / parts;
    const absl::Span<const Group> share(batch.groups.data() + begin,
                                        static_cast<size_t>(end - begin));
    DatumBatch datums = MakeDatums(share, options.datums);
    if (!datums.datums.empty()) updates.push_back(std::move(datums));
  }
  return updates;
}

void MergeDiff(const LogprobDiff& part, LogprobDiff* total) {
  const int64_t n = total->num_tokens + part.num_tokens;
  if (n == 0) return;
  const double share = static_cast<double>(part.num_tokens) / static_cast<double>(n);
  total->max = std::max(total->max, part.max);
  total->kl_max = std::max(total->kl_max, part.kl_max);
  total->mean += share * (part.mean - total->mean);
  total->k3 += share * (part.k3 - total->k3);
  total->num_tokens = n;
}

// What the loss sum of one call is divided by (rft/core/loss_config.h; losses put constants such as agg_norm into the sum).
double Denominator(const ForwardBackwardResult& result, Aggregation aggregation) {
  switch (aggregation) {
    case Aggregation::kTokenSum:
      return 1.0;
    case Aggregation::kTokenMean:
      return static_cast<double>(std::max<int64_t>(1, result.num_tokens));
    default:
      return static_cast<double>(std::max<int64_t>(1, result.num_rows));
  }
}

// Token means are weighted by tokens; *_max and *_min are combined as such.
void MergeMetrics(const ForwardBackwardResult& part, int64_t tokens_before, UpdateResult* total) {
  const int64_t n = tokens_before + part.num_tokens;
  for (const auto& [name, value] : part.metrics) {
    const auto [it, is_new] = total->metrics.try_emplace("loss/" + name, value);
    if (is_new) continue;
    if (std::string_view(name).ends_with("_max")) {
      it->second = std::max(it->second, value);
    } else if (std::string_view(name).ends_with("_min")) {
      it->second = std::min(it->second, value);
    } else if (n > 0) {
      it->second +=
          (value - it->second) * static_cast<double>(part.num_tokens) / static_cast<double>(n);
    }
  }
}

class BatchTrainer {
 public:
  BatchTrainer(TrainingClient& trainer, TrainingClient* reference, const StepBatch& batch,
               const UpdateOptions& options)
      : trainer_(trainer),
        reference_(reference),
        batch_(batch),
        options_(options),
        loss_(options.loss) {
    if (loss_.kl_target != KlTarget::kLoss) {  // it is in the advantages when the loss is computed
      loss_.kl_target = KlTarget::kLoss;
      loss_.kl_coef = 0.0;
    }
  }

  absl::Status Run(std::vector<DatumBatch>* updates) {
    if (options_.loss.kl_coef > 0.0) {
      RFT_CHECK(reference_ != nullptr);
      for (DatumBatch& update : *updates) {
        RFT_ASSIGN_OR_RETURN(ForwardResult forward, reference_->Forward(update.datums));
        for (size_t i = 0; i < update.datums.size(); ++i)
          update.datums[i].ref_logprobs = std::move(forward.logprobs[i]);
      }
    }
    if (updates->size() > 1) {
      for (DatumBatch& update : *updates) {
        RFT_ASSIGN_OR_RETURN(ForwardResult forward, trainer_.Forward(update.datums));
        Compare(update, forward.logprobs, &result_.diff);
        for (size_t i = 0; i < update.datums.size(); ++i) {
          update.datums[i].old_logprobs = std::move(forward.logprobs[i]);
          if (options_.replay_old_routes && !forward.routes.empty())
            update.datums[i].routes = std::move(forward.routes[i]);
        }
      }
    }
    AddReferenceKl(absl::MakeSpan(*updates));
    for (size_t i = 0; i < updates->size(); ++i)
      RFT_RETURN_IF_ERROR(Update((*updates)[i], i == 0, updates->size() == 1));
    return absl::OkStatus();
  }

  UpdateResult& result() { return result_; }

 private:
  // Where the KL to the reference enters before the loss.
  void AddReferenceKl(absl::Span<DatumBatch> updates) {
    const LossConfig& loss = options_.loss;
    if (loss.kl_coef == 0.0) return;
    if (loss.kl_target == KlTarget::kReward)
      AddKlToRewards(loss, options_.advantage, batch_.groups, updates);
    if (loss.kl_target == KlTarget::kAdvantage) AddKlToAdvantages(loss, updates);
  }

  void Compare(const DatumBatch& update, const std::vector<std::vector<float>>& logprobs,
               LogprobDiff* diff) {
    if (options_.comparison == Comparison::kNone) return;
    const bool sampling = options_.comparison == Comparison::kSampling;
    MergeDiff(CompareLogprobs(update.datums, SamplerLogprobs(update.rollouts, sampling), logprobs),
              diff);
  }

  // Of the registered loss or the caller's. *denominator: what its sum stands over.
  absl::StatusOr<ForwardBackwardResult> ForwardBackward(absl::Span<const Datum> datums,
                                                        double* denominator) {
    if (!options_.custom_loss) {
      auto result = trainer_.ForwardBackward(datums, loss_);
      if (result.ok()) *denominator = Denominator(*result, loss_.aggregation);
      return result;
    }
    return trainer_.ForwardBackwardCustom(
        datums, [&](const std::vector<std::vector<float>>& logprobs) {
          auto result = options_.custom_loss(datums, logprobs);
          if (result.ok()) *denominator = result->denominator > 0.0 ? result->denominator : 1.0;
          return result;
        });
  }

  absl::Status Update(const DatumBatch& update, bool is_first, bool is_only) {
    double denominator = 0.0;
    RFT_ASSIGN_OR_RETURN(const ForwardBackwardResult forward,
                         ForwardBackward(update.datums, &denominator));
    LogprobDiff now;
    Compare(update, forward.logprobs, &now);
    if (is_only) result_.diff = now;
    result_.kl_max = std::max(result_.kl_max, now.kl_max);
    if (is_first) result_.loss = forward.loss_sum / denominator;
    MergeMetrics(forward, result_.num_tokens, &result_);
    result_.num_tokens += forward.num_tokens;
    result_.num_computed_tokens += forward.num_computed_tokens;
    result_.num_rollouts += static_cast<int64_t>(update.datums.size());
    if (!forward.finite) {
      if (result_.not_finite.empty()) result_.not_finite = WhereNotFinite(update, forward);
      trainer_.ZeroGrad();
      ++result_.num_skipped;
      return absl::OkStatus();
    }
    RFT_ASSIGN_OR_RETURN(const OptimStepResult step, trainer_.OptimStep(options_.adam));
    result_.grad_norm = step.grad_norm;
    if (step.skipped) {
      trainer_.ZeroGrad();
      ++result_.num_skipped;
    } else {
      ++result_.num_updates;
    }
    return absl::OkStatus();
  }

  // In the words of rollouts.jsonl.
  std::string WhereNotFinite(const DatumBatch& update, const ForwardBackwardResult& forward) const {
    if (forward.not_finite_datum < 0) return "";
    const Rollout& rollout = *update.rollouts[static_cast<size_t>(forward.not_finite_datum)];
    const auto group = std::find_if(batch_.groups.begin(), batch_.groups.end(),
                                    [&](const Group& g) { return g.id == rollout.group; });
    RFT_CHECK(group != batch_.groups.end());
    return absl::StrCat("row ", group->row->index, ", group ", rollout.group, ", rollout ",
                        rollout.index, ": ", forward.not_finite);
  }

  TrainingClient& trainer_;
  TrainingClient* const reference_;
  const StepBatch& batch_;
  const UpdateOptions& options_;
  LossConfig loss_;  // what the trainer is given
  UpdateResult result_;
};

}  // namespace

Comparison ComparisonFor(const SamplingParams& sampling, bool has_grammar) {
  const bool whole = !has_grammar && !sampling.ChangesLogits() && sampling.top_p >= 1.0 &&
                     sampling.top_k == 0 && sampling.min_p <= 0.0 && sampling.min_tokens == 0;
  if (whole) return Comparison::kSampling;
  return sampling.temperature == 1.0 ? Comparison::kFull : Comparison::kNone;
}

absl::StatusOr<UpdateResult> TrainOnBatch(TrainingClient& trainer, TrainingClient* reference,
                                          const StepBatch& batch, const UpdateOptions& options) {
  std::vector<DatumBatch> updates = SplitIntoUpdates(batch, options);
  BatchTrainer body(trainer, reference, batch, options);
  const absl::Status status = body.Run(&updates);
  if (!status.ok()) {
    trainer.ZeroGrad();
    return status;
  }
  return std::move(body.result());
}

}  // namespace rft
