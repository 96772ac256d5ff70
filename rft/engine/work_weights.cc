#include "rft/engine/work_weights.h"

#include <algorithm>
#include <utility>

namespace rft {
namespace {

const ModelWeights& WeightsOf(const Scheduler::Work& work) {
  return static_cast<const ModelWeights&>(*work.sequence->owner->weights);
}

}  // namespace

void SortByWeights(std::vector<Scheduler::Work>& work) {
  std::stable_sort(work.begin(), work.end(), [](const auto& a, const auto& b) {
    const ModelWeights &x = WeightsOf(a), &y = WeightsOf(b);
    return std::pair(BaseOf(x), &x) < std::pair(BaseOf(y), &y);
  });
}

std::vector<std::vector<Scheduler::Work>> SplitByBase(const std::vector<Scheduler::Work>& work) {
  std::vector<std::vector<Scheduler::Work>> parts;
  for (const Scheduler::Work& w : work) {
    if (parts.empty() || BaseOf(WeightsOf(parts.back().back())) != BaseOf(WeightsOf(w)))
      parts.emplace_back();
    parts.back().push_back(w);
  }
  return parts;
}

std::shared_ptr<const ModelWeights> MixedWeights(const std::vector<Scheduler::Work>& work) {
  std::vector<AdapterRows> rows;
  for (const auto& w : work) {
    auto weights = std::static_pointer_cast<const ModelWeights>(w.sequence->owner->weights);
    const int64_t at = rows.empty() ? 0 : rows.back().begin + rows.back().count;
    if (!rows.empty() && rows.back().weights == weights)
      rows.back().count += w.count;
    else
      rows.push_back({at, w.count, std::move(weights)});
  }
  return rows.size() == 1 ? rows[0].weights : MixAdapters(rows);
}

}  // namespace rft
