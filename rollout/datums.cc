#include "rollout/datums.h"

#include <algorithm>

#include "rollout/rollout_advantages.h"

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

// The segments' routes one after another; tokens without are unknown.
TokenRoutes JoinRoutes(const Rollout& rollout) {
  size_t token_bytes = 0;
  for (const Segment& s : rollout.segments)
    if (!s.routes.empty()) token_bytes = s.routes.size() / s.ids.size();
  TokenRoutes joined;
  if (token_bytes == 0) return joined;
  for (const Segment& s : rollout.segments) {
    const bool known = !s.ids.empty() && s.routes.size() == token_bytes * s.ids.size();
    joined.known.insert(joined.known.end(), s.ids.size(), known);
    joined.packed.insert(joined.packed.end(), s.routes.begin(), s.routes.end());
    joined.packed.resize(joined.known.size() * token_bytes);
  }
  joined.known[0] = 0;  // nothing predicted the first token
  return joined;
}

Datum MakeDatum(const Group& group, const Rollout& rollout, const DatumOptions& options) {
  Datum datum;
  const std::vector<float> advantages =
      SpreadOverTokens(rollout, rollout.advantage, rollout.token_advantages);
  for (const Segment& segment : rollout.segments) {
    datum.ids.insert(datum.ids.end(), segment.ids.begin(), segment.ids.end());
    for (size_t i = 0; i < segment.ids.size(); ++i) {
      const bool trained = i < segment.loss_mask.size() && segment.loss_mask[i] != 0;
      datum.weights.push_back(trained ? 1.0f : 0.0f);
      datum.advantages.push_back(trained ? advantages[datum.advantages.size()] : 0.0f);
    }
    AppendOrZeros(segment.sampling_logprobs, segment.ids.size(), &datum.sampling_logprobs);
  }
  if (options.replay_routes) datum.routes = JoinRoutes(rollout);
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
      batch.datums.push_back(MakeDatum(group, rollout, options));
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
