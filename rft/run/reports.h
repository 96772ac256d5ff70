// What a run tells its caller about one step and about one evaluation. Plain data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace rft {

// Figures that could not be measured (no scored rollout, nothing compared) are NaN.
struct StepReport {
  int64_t index = 0;         // counts from 0
  double reward_mean = 0.0;  // over all scored rollouts, those of dropped groups included
  double reward_std = 0.0;
  double kl_max = 0.0;  // nats; largest per-rollout KL(policy sampled from || policy trained), k3
  double loss = 0.0;    // of the first update
  double grad_norm = 0.0;  // of the last update, before clipping
  double learning_rate = 0.0;
  int64_t num_groups = 0;    // trained on
  int64_t num_filtered = 0;  // sampled, but dropped
  int64_t tokens_sampled = 0;
  double completion_length_mean = 0.0;    // tokens
  double seconds = 0.0;                   // sample_s + train_s
  double sample_s = 0.0;                  // sampling and grading
  double train_s = 0.0;                   // from datums to the published weights
  double logprob_diff_max = 0.0;          // nats; sampler against trainer on the tokens trained on
  bool skipped = false;                   // the weights did not change, or not by every update
  std::map<std::string, double> metrics;  // everything written to metrics.jsonl
};

struct EvalSample {
  int64_t row = 0;
  std::string prompt;  // the row's last message
  std::string completion;
  double reward = 0.0;                   // NaN when it could not be judged
  std::map<std::string, double> grades;  // grader -> score, of those that gave one
};

struct EvalReport {
  double reward_mean = 0.0;  // over the rows that could be judged
  int64_t num_rows = 0;
  std::vector<double> rewards;  // per row, the mean over its samples; NaN when none could be judged
  std::map<std::string, double>
      metrics;  // grader/<name> means, completion_length_mean, ... (rollout/step_metrics.h)
  std::vector<EvalSample> samples;  // the first sample of each row
};

}  // namespace rft
