#include "rft/engine/route_recorder.h"

#include "rft/tensor/dispatch.h"
#include "rft/tensor/parallel.h"

namespace rft {

uint8_t* RouteRecorder::At(const EngineSequence& sequence, int64_t position) {
  return cache_.Routes(sequence.pages[position / kBlockKeys], position % kBlockKeys);
}

void RouteRecorder::Store(const std::vector<Scheduler::Work>& work, const at::Tensor& used_TMK) {
  std::vector<uint8_t*> to;  // by row
  for (const auto& w : work)
    for (int64_t t = w.sequence->num_cached; t < w.sequence->num_cached + w.count; ++t)
      to.push_back(At(*w.sequence, t));
  const int32_t* experts = Data<int32_t>(used_TMK);
  const int64_t each = codec_.token_experts();
  ParallelFor(static_cast<int64_t>(to.size()), GrainFor(each), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) codec_.Encode(experts + i * each, to[i]);
  });
}

std::vector<uint8_t> RouteRecorder::Last(const EngineSequence& sequence) {
  const RouteCapture wanted = sequence.owner->request.routes;
  const int64_t bytes = codec_.token_bytes();
  if (bytes == 0 || wanted == RouteCapture::kNone) return {};
  if (sequence.sample == EngineSequence::kPrompt && wanted == RouteCapture::kPromptAndCompletion) {
    std::vector<uint8_t>& prompt = sequence.owner->prompt_routes;
    prompt.assign(bytes, 0);
    for (int64_t t = 0; t + 1 < sequence.size(); ++t) {
      const uint8_t* at = At(sequence, t);
      prompt.insert(prompt.end(), at, at + bytes);
    }
  }
  const uint8_t* at = At(sequence, sequence.size() - 1);
  return {at, at + bytes};
}

}  // namespace rft
