// GRPO in one file, on the verbs of the trainer and the engine: change any line of it. The twin of one_file_loop.py.
//
//   one_file_loop MODEL_DIR TRAIN.jsonl [STEPS]
//
// Rows are OpenAI chat messages with a column `answer`. Everything a managed run does (filters, journal, checkpoints,
// graders with deadlines) is left out here on purpose.
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "bindings/python_text.h"
#include "rft/rft.h"
#include "rollout/advantage.h"

namespace {

constexpr int kPrompts = 8, kGroup = 8, kMaxTokens = 24;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status().message() << "\n";
  std::exit(1);
}

double Reward(const std::string& completion, const std::string& answer) {
  const bool has_format = completion.find("<answer>") != std::string::npos;
  const bool is_right = completion.find("<answer>" + answer + "</answer>") != std::string::npos;
  return 0.2 * has_format + 0.8 * is_right;
}

rft::Datum MakeDatum(const std::vector<rft::TokenId>& prompt, const rft::Completion& sample,
                     double advantage, int64_t group) {
  rft::Datum datum;
  datum.ids = prompt;
  datum.ids.insert(datum.ids.end(), sample.ids.begin(), sample.ids.end());
  datum.weights.assign(prompt.size(), 0.0f);
  datum.weights.resize(datum.ids.size(), 1.0f);
  datum.advantages.assign(prompt.size(), 0.0f);
  datum.advantages.resize(datum.ids.size(), static_cast<float>(advantage));
  datum.sampling_logprobs.assign(prompt.size(), 0.0f);
  datum.sampling_logprobs.insert(datum.sampling_logprobs.end(), sample.sampling_logprobs.begin(),
                                 sample.sampling_logprobs.end());
  datum.prefix_id = group;  // the group's prompt is computed once
  datum.prefix_length = static_cast<int32_t>(prompt.size());
  return datum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::cerr << "usage: one_file_loop MODEL_DIR TRAIN.jsonl [STEPS]\n", 2;
  const int num_steps = argc > 3 ? std::atoi(argv[3]) : 20;
  const auto rows = OrDie(rft::ReadDataset(argv[2]));
  const auto codec = OrDie(rft::LoadPythonCodec(argv[1]));
  const auto model = OrDie(rft::LoadModel(argv[1], at::kBFloat16));
  const auto trainer = OrDie(rft::Trainer::Create(model, {}));
  const auto engine = OrDie(rft::CreateLocalEngine(model, {}, codec));
  const rft::LossConfig loss = rft::FindLoss("grpo").DefaultConfig();

  for (int step = 0; step < num_steps; ++step) {
    std::vector<rft::GenerateRequest> requests(kPrompts);
    const auto row_of = [&](size_t i) {
      return rows[(static_cast<size_t>(step) * kPrompts + i) % rows.size()];
    };
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].prompt = OrDie(codec->EncodeChat(row_of(i)->messages));
      requests[i].sampling.max_tokens = kMaxTokens;
      requests[i].num_samples = kGroup;
      requests[i].rng = {.run_seed = 0, .step = static_cast<uint64_t>(step), .row = i};
    }
    const auto groups = OrDie(rft::GenerateAll(*engine, requests));

    std::vector<rft::Datum> datums;
    double reward_sum = 0.0;
    for (size_t i = 0; i < groups.size(); ++i) {
      rft::Rewards rewards;
      for (const rft::Completion& sample : groups[i])
        rewards.push_back(
            Reward(rft::DecodeTokens(*codec, sample.ids), row_of(i)->columns.at("answer")));
      for (const auto& reward : rewards) reward_sum += *reward;
      const std::vector<double> advantages =
          rft::ComputeAdvantages(rft::AdvantageKind::kGrpo, rewards);
      for (size_t s = 0; s < groups[i].size(); ++s) {
        if (advantages[s] != 0.0)  // all alike: nothing to learn from this group
          datums.push_back(
              MakeDatum(requests[i].prompt, groups[i][s], advantages[s], static_cast<int64_t>(i)));
      }
    }
    if (!datums.empty()) {
      OrDie(trainer->ForwardBackward(datums, loss));
      OrDie(trainer->OptimStep({.learning_rate = 1e-5, .grad_clip_norm = 1.0}));
      const absl::Status published =
          engine->Publish(OrDie(trainer->SaveWeightsForSampler()));  // a pointer, not a copy
      if (!published.ok()) return std::cerr << published.message() << "\n", 1;
    }
    std::cout << "step " << step << ": reward " << reward_sum / (kPrompts * kGroup) << ", "
              << datums.size() << " rollouts trained on" << std::endl;
  }
  engine->Shutdown();
}
