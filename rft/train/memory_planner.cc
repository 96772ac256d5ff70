#include "rft/train/memory_planner.h"

#include <malloc.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "rft/core/process_memory.h"
#include "rft/train/memory_model.h"

namespace rft {
namespace {

// Code and thread stacks that the first step touches.
constexpr int64_t kFirstStep = 24 << 20;

// Freed by loading, still the process's, and used again by the first activations. The top of the heap has not been touched.
int64_t ReusableHeap() {
  const struct mallinfo2 heap = mallinfo2();
  return static_cast<int64_t>(heap.fordblks) - static_cast<int64_t>(heap.keepcost);
}

int64_t StateBytes(const ParameterStore& trained, const OptimizerOptions& optimizer) {
  const int64_t moments = optimizer.kind == "sgd" ? 1 : 2;
  return moments * Moment::Bytes(trained.num_parameters(), optimizer.state);
}

class Planner {
 public:
  Planner(CausalLm& model, const TrainerOptions& options, const MemoryWorkload& workload)
      : model_(model), options_(options), workload_(workload), adapter_(options.adapter.get()) {
    ParameterStore& base = model.parameters();
    ParameterStore& trained = options.adapter ? options.adapter->parameters() : base;
    const int64_t packed = PackedBytes(model), masters = 4 * base.num_parameters();
    const bool has_gradients = trained.grads().defined();
    fixed_ = {
        {"process",
         std::max<int64_t>(0, ResidentBytes() - ReusableHeap() - masters - packed) + kFirstStep,
         "libraries, tokenizer, data"},
        {"weights", masters, "float32 masters"},
        {"versions", packed * NumVersions(), "compute copies of the weights"},
        {"gradients", 4 * trained.num_parameters(), "float32"},
        {"optimizer", StateBytes(trained, options.optimizer),
         absl::StrCat(options.optimizer.kind, ", ", options.optimizer.state)},
    };
    if (has_gradients) fixed_[0].bytes -= std::min(fixed_[0].bytes, fixed_[3].bytes);
    if (workload.state_cache_bytes > 0)
      fixed_.push_back(
          {"state cache", workload.state_cache_bytes, "keys and values of the engine"});
  }

  MemoryPlan At(int64_t token_budget) const {
    MemoryPlan plan;
    plan.token_budget = token_budget;
    plan.items = fixed_;
    const int64_t tokens = workload_.tokens_per_step > 0
                               ? std::min(token_budget, workload_.tokens_per_step)
                               : token_budget;
    const auto predictions =
        static_cast<int64_t>(static_cast<double>(tokens) * workload_.predicted_part);
    const MicroBatchMemory memory = MemoryOfMicroBatch(
        model_, adapter_,
        {tokens, predictions, std::min(tokens, workload_.longest_row), options_.checkpoint_every});
    plan.items.push_back({"activations", memory.activations,
                          absl::StrCat("of a micro-batch of ", tokens, " tokens")});
    plan.items.push_back({"workspace", memory.workspace,
                          absl::StrCat("of the backward; chunks of logits take ",
                                       BytesText(memory.logits), " of it")});
    for (const MemoryItem& item : plan.items) plan.total_bytes += item.bytes;
    return plan;
  }

 private:
  // An adapter's versions share the base's.
  int64_t NumVersions() const {
    if (adapter_) return 1;
    return 1 + workload_.kept_versions + (workload_.sampled_from ? 1 : 0);
  }

  CausalLm& model_;
  const TrainerOptions& options_;
  const MemoryWorkload& workload_;
  const LoraAdapter* const adapter_;
  std::vector<MemoryItem> fixed_;
};

std::string Advice(const TrainerOptions& options) {
  std::vector<std::string> ways;
  if (options.checkpoint_every != 1) ways.push_back("trainer.checkpoint_every: 1");
  if (!options.adapter) ways.push_back("lora.rank: 16");
  if (options.optimizer.kind == "adamw" && options.optimizer.state != "int8")
    ways.push_back("trainer.optimizer_state: int8");
  ways.push_back("a smaller rollout.max_tokens or data.max_prompt_tokens");
  std::string text = "What helps: ";
  for (size_t i = 0; i < ways.size(); ++i) absl::StrAppend(&text, i == 0 ? "" : ", ", ways[i]);
  return text;
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(CausalLm& model, const TrainerOptions& options,
                                      const MemoryWorkload& workload, int64_t limit_bytes) {
  const Planner planner(model, options, workload);
  const int64_t limit = limit_bytes > 0 ? limit_bytes : ResidentBytes() + AvailableBytes() / 10 * 9;
  const auto fits = [&](int64_t tokens) { return planner.At(tokens).total_bytes <= limit; };
  int64_t low = std::max<int64_t>(1, workload.longest_row);
  int64_t high = std::max(low, options.token_budget);
  if (!fits(low)) {
    MemoryPlan plan = planner.At(low);
    plan.limit_bytes = limit;
    return absl::ResourceExhaustedError(absl::StrCat(
        "trainer.memory_mb: one row of ", low, " tokens needs ", BytesText(plan.total_bytes), ", ",
        BytesText(limit), " may be used. ", Advice(options), "\n", MemoryPlanText(plan)));
  }
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    fits(middle) ? low = middle : high = middle - 1;
  }
  MemoryPlan plan = planner.At(low);
  plan.limit_bytes = limit;
  return plan;
}

}  // namespace rft
