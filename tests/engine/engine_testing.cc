#include "tests/engine/engine_testing.h"

#include <cstring>
#include <numeric>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "rft/core/check.h"
#include "rft/engine/paged_cache.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/ops.h"
#include "tests/models/tiny_model.h"

namespace rft::testing {
namespace {

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

std::unique_ptr<InferenceEngine> StartEngine(std::shared_ptr<CausalLm> model, EngineOptions options,
                                             int64_t pages,
                                             std::shared_ptr<const TextCodec> codec) {
  const int64_t page_bytes =
      PagedCache::PageBytes(model->config().num_layers, model->head_layout(), model->dtype());
  options.kv_memory_bytes = page_bytes * (pages > 0 ? pages : 2000);
  options.check_invariants = true;
  auto engine = CreateLocalEngine(std::move(model), options, std::move(codec));
  RFT_CHECK(engine.ok());
  return *std::move(engine);
}

GenerateRequest MakeRequest(std::vector<TokenId> prompt, int32_t max_tokens, uint64_t row) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = max_tokens;
  request.rng = {.run_seed = 5, .row = row};
  return request;
}

std::vector<GenerateRequest> RaggedRequests(int count, uint64_t seed) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < count; ++i) {
    auto random = [&](int64_t low, int64_t high, int what) {
      return RandomInt(low, high, seed, i * 8 + what);
    };
    GenerateRequest r = MakeRequest(RandomIds(random(1, 60, 0), seed + i),
                                    static_cast<int32_t>(random(1, 24, 1)), i);
    r.num_samples = static_cast<int32_t>(random(1, 3, 2));
    r.sampling.temperature = std::vector<double>{1.0, 0.0, 0.7}[random(0, 2, 3)];
    r.sampling.top_k = std::vector<int32_t>{0, 0, 20}[random(0, 2, 4)];
    r.sampling.top_p = std::vector<double>{1.0, 0.9}[random(0, 1, 5)];
    requests.push_back(std::move(r));
  }
  return requests;
}

std::vector<std::vector<Completion>> Generate(InferenceEngine& engine,
                                              std::vector<GenerateRequest> requests) {
  auto completions = GenerateAll(engine, std::move(requests), /*deadline_s=*/60.0);
  EXPECT_TRUE(completions.ok()) << completions.status();
  if (!completions.ok()) return {};
  return *std::move(completions);
}

void ExpectSameCompletions(const std::vector<std::vector<Completion>>& a,
                           const std::vector<std::vector<Completion>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].size(), b[i].size());
    for (size_t s = 0; s < a[i].size(); ++s) {
      const Completion &x = a[i][s], &y = b[i][s];
      EXPECT_EQ(x.ids, y.ids) << "request " << i << ", sample " << s;
      EXPECT_TRUE(SameBits(x.logprobs, y.logprobs)) << "request " << i << ", sample " << s;
      EXPECT_TRUE(SameBits(x.sampling_logprobs, y.sampling_logprobs))
          << "request " << i << ", sample " << s;
      EXPECT_EQ(x.finish_reason, y.finish_reason) << "request " << i << ", sample " << s;
    }
  }
}

std::vector<float> Replay(const CausalLm& model,
                          const std::map<int64_t, std::shared_ptr<const ModelWeights>>& versions,
                          const std::vector<TokenId>& prompt, const Completion& completion) {
  at::NoGradGuard no_grad;
  std::vector<int64_t> ids(prompt.begin(), prompt.end());
  ids.insert(ids.end(), completion.ids.begin(), completion.ids.end());
  const auto length = static_cast<int64_t>(ids.size());
  std::vector<PageId> pages(length / kBlockKeys + 1);
  std::iota(pages.begin(), pages.end(), 0);
  PagedCache cache(static_cast<int64_t>(pages.size()), model.config().num_layers,
                   model.head_layout(), model.dtype());
  std::vector<float> logprobs;
  int64_t cached = 0;
  for (size_t i = 0; i < completion.ids.size(); ++i) {
    const ModelWeights& weights = *versions.at(completion.versions[i]);
    const auto position =
        static_cast<int64_t>(prompt.size() + i);  // of the token that is predicted
    PagedAttention attention(cache, {{0, position - cached, cached, &pages}});
    const at::Tensor hidden = model.forward(
        weights,
        at::tensor(std::vector<int64_t>(ids.begin() + cached, ids.begin() + position), at::kLong),
        at::arange(cached, position, at::kLong), attention, nullptr);
    const at::Tensor logprob =
        ops::TokenLogprobs(hidden.narrow(0, position - cached - 1, 1).contiguous(), weights.head,
                           at::tensor(std::vector<int64_t>{ids[position]}, at::kLong), 1.0);
    logprobs.push_back(logprob.item<float>());
    cached = position;
  }
  return logprobs;
}

}  // namespace rft::testing
