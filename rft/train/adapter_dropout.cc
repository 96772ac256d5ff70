#include "rft/train/adapter_dropout.h"

#include <vector>

#include <ATen/ops/tensor.h>

#include "rft/core/rng.h"
#include "rft/tensor/low_rank.h"

namespace rft {

std::shared_ptr<const ModelWeights> WithDropout(const ModelWeights& weights,
                                                const LoraConfig& config, int64_t step,
                                                uint64_t pass, const MicroBatch& batch) {
  std::vector<int64_t> keys, head_keys;
  for (size_t i = 0; i < batch.ids.size(); ++i)
    keys.push_back((batch.owners[i] << 32) + batch.positions[i]);
  for (const auto& p : batch.predictions) head_keys.push_back(keys[p.source]);
  auto dropout = std::make_shared<LowRankDropout>();
  dropout->p = config.dropout;
  dropout->seed = BitsAt(config.seed, static_cast<uint64_t>(step), pass);
  dropout->keys_T = at::tensor(keys, at::kLong);
  auto head_dropout = std::make_shared<LowRankDropout>(*dropout);
  head_dropout->keys_T = at::tensor(head_keys, at::kLong);
  auto with = std::make_shared<ModelWeights>(weights);
  for (ModelWeights::Lora& lora : with->lora) {
    lora.dropout = dropout;
    lora.head_dropout = head_dropout;
  }
  return with;
}

}  // namespace rft
