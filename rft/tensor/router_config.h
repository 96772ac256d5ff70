// How a mixture-of-experts layer chooses experts: the one router, of which the families are settings. Torch-free.
//
//   score s_e = softmax(logits)_e or sigmoid(logit_e)
//   choice    = the top_k largest s_e (+ correction bias, which enters the choice only), within the top_groups best groups
//   weight    = s_e, divided by (the chosen ones' sum + renormalize_eps) if renormalize, times scale
//
// Qwen3-MoE, OLMoE: softmax, renormalize as norm_topk_prob says. Mixtral (top-k, then softmax): softmax, renormalize.
// DeepSeek-V3, GLM-4.5, MiniMax-M2: sigmoid, correction bias; groups and scale where the config has them.
#pragma once

#include <cstdint>

namespace rft {

struct RouterConfig {
  enum class Score { kSoftmax, kSigmoid };
  int64_t num_experts = 0;
  int64_t top_k = 0;  // experts per token
  Score score = Score::kSoftmax;
  bool renormalize = false;
  double renormalize_eps = 0.0;
  double scale = 1.0;
  int64_t num_groups =
      1;  // experts are in this many equal groups; a group's score is the sum of its two best
  int64_t top_groups = 1;  // only the best of them are chosen from
  bool correction_bias = false;
};

}  // namespace rft
