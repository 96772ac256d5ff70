#include "rollout/datums.h"

#include <algorithm>

namespace rft {
namespace {

int64_t NumTrainedTokens(const Rollout& rollout) {
  int64_t n = 0;
  for (const Segment& segment : rollout.segments)
    n += std::count(segment.loss_mask.begin(), segment.loss_mask.end(), 1);
  return n;
}

// The segment's values, or zeros where it has none.
void AppendOrZeros(const std::vector<float>& values, size_t length, std::vector<float>* out) {
  if (values.size() == length) {
    out->insert(out->end(), values.begin(), values.end());
  } else {
    out->insert(out->end(), length, 0.0f);
  }
}

Datum MakeDatum(const Group& group, const Rollout& rollout) {
  Datum datum;
  const auto advantage = static_cast<float>(rollout.advantage);
  for (const Segment& segment : rollout.segments) {
    datum.ids.insert(datum.ids.end(), segment.ids.begin(), segment.ids.end());
    for (size_t i = 0; i < segment.ids.size(); ++i) {
      const bool trained = i < segment.loss_mask.size() && segment.loss_mask[i] != 0;
      datum.weights.push_back(trained ? 1.0f : 0.0f);
      datum.advantages.push_back(trained ? advantage : 0.0f);
    }
    AppendOrZeros(segment.sampling_logprobs, segment.ids.size(), &datum.sampling_logprobs);
  }
  datum.prefix_id = group.id;
  datum.prefix_length = static_cast<int32_t>(group.prompt.size());
  return datum;
}

}  // namespace

bool IsTrainedOn(const Rollout& rollout, const DatumOptions& options) {
  if (!rollout.scored) return false;
  if (options.mask_truncated && rollout.finish_reason == FinishReason::kLength) return false;
  return NumTrainedTokens(rollout) > 0;
}

DatumBatch MakeDatums(absl::Span<const Group> groups, const DatumOptions& options) {
  DatumBatch batch;
  for (const Group& group : groups) {
    for (const Rollout& rollout : group.rollouts) {
      if (!IsTrainedOn(rollout, options)) continue;
      batch.datums.push_back(MakeDatum(group, rollout));
      batch.rollouts.push_back(&rollout);
    }
  }
  return batch;
}

std::vector<std::vector<float>> SamplerLogprobs(absl::Span<const Rollout* const> rollouts,
                                                bool sampling) {
  std::vector<std::vector<float>> all;
  all.reserve(rollouts.size());
  for (const Rollout* rollout : rollouts) {
    std::vector<float>& logprobs = all.emplace_back();
    for (const Segment& segment : rollout->segments) {
      AppendOrZeros(sampling ? segment.sampling_logprobs : segment.logprobs, segment.ids.size(),
                    &logprobs);
    }
  }
  return all;
}

}  // namespace rft
