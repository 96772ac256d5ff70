#include "rft/engine/forward_pass.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "rft/engine/guided_sampler.h"
#include "rft/engine/work_weights.h"
#include "rft/models/lora.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/ops.h"

namespace rft {
namespace {

bool ScoresPrompt(const EngineSequence& s) {
  return s.owner->request.want_prompt_logprobs && s.sample == EngineSequence::kPrompt;
}

}  // namespace

ForwardPass::ForwardPass(const CausalLm& model, PagedCache& cache, RouteRecorder& routes,
                         const std::vector<Scheduler::Work>& work, at::Tensor& logits)
    : model_(model), weights_(MixedWeights(work)), logits_(logits) {
  std::vector<int64_t> ids, positions;
  std::vector<PagedSequence> sequences;
  bool scores = false;
  for (const auto& w : work) {
    const EngineSequence& s = *w.sequence;
    scores = scores || ScoresPrompt(s);
    sequences.push_back({static_cast<int64_t>(ids.size()), w.count, s.num_cached, &s.pages});
    for (int64_t t = s.num_cached; t < s.num_cached + w.count; ++t) {
      ids.push_back(s.tokens[t]);
      positions.push_back(t);
    }
    if (!w.wants_logits) continue;
    wanted_.push_back(w.sequence);
    wanted_rows_.push_back(static_cast<int64_t>(ids.size()) - 1);
  }
  Routing routing{.capture = routes.enabled()};
  PagedAttention attention(cache, std::move(sequences));
  const at::Tensor wanted_N = at::tensor(wanted_rows_, at::kLong),
                   hidden = model_.forward(*weights_, at::tensor(ids, at::kLong),
                                           at::tensor(positions, at::kLong), attention, &routing,
                                           scores ? at::Tensor() : wanted_N);
  if (routing.capture) routes.Store(work, routing.used_TMK);
  int64_t row = 0;
  for (const auto& w : work) {
    if (ScoresPrompt(*w.sequence)) ScorePrompt(w, hidden, row);
    row += w.count;
  }
  wanted_NH_ = scores ? ops::SelectRows(hidden, wanted_N) : hidden;
}

int64_t ForwardPass::max_rows() const { return ops::LogitsChunkRows(model_.config().vocab_size); }

const float* ForwardPass::Logits(int64_t begin, int64_t rows) {
  ComputeLogits(wanted_NH_.narrow(0, begin, rows),
                absl::MakeConstSpan(wanted_rows_).subspan(begin, rows));
  return Data<float>(logits_);
}

void ForwardPass::ComputeLogits(const at::Tensor& hidden_NH, absl::Span<const int64_t> rows_N) {
  const Weight& head = weights_->head;
  const int64_t rows = hidden_NH.size(0);
  if (!logits_.defined() || logits_.size(0) < rows) logits_ = at::empty({rows, head.n}, at::kFloat);
  DispatchFloat(hidden_NH.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    MultiplyToFloat(Data<T>(hidden_NH), rows, head, Data<float>(logits_), false);
  });
  AddHeadAdapters(logits_.narrow(0, 0, rows), hidden_NH, rows_N, *weights_);
}

void ForwardPass::ScorePrompt(const Scheduler::Work& w, const at::Tensor& hidden_TH,
                              int64_t first) {
  const EngineSequence& s = *w.sequence;
  EngineRequest& owner = *s.owner;
  const int64_t vocab = weights_->head.n, chunk = max_rows();
  const int64_t count = std::min(w.count, s.size() - 1 - s.num_cached);
  for (int64_t r0 = 0; r0 < count; r0 += chunk) {
    const int64_t rows = std::min(chunk, count - r0);
    std::vector<int64_t> rows_N(rows);
    std::iota(rows_N.begin(), rows_N.end(), first + r0);
    ComputeLogits(hidden_TH.narrow(0, first + r0, rows), rows_N);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t predicted = s.num_cached + r0 + r + 1;
      const float* logits = Data<float>(logits_) + r * vocab;
      owner.prompt_logprobs[predicted] = TokenLogprobOf(logits, vocab, s.tokens[predicted]);
      if (!owner.prompt_top_logprobs.empty())
        owner.prompt_top_logprobs[predicted] =
            TopLogprobs(logits, vocab, owner.request.num_prompt_top_logprobs);
    }
  }
}

}  // namespace rft
