#include "rft/train/memory_planner.h"

#include <malloc.h>

#include <algorithm>

#include <c10/core/CachingDeviceAllocator.h>

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

// What the device has left; 0 where its allocator doesn't say.
int64_t FreeBytes(at::Device device) {
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  if (allocator == nullptr) return 0;
  const auto index = std::max<c10::DeviceIndex>(0, device.index());
  return static_cast<int64_t>(allocator->getMemoryInfo(index).first);
}

class Planner {
 public:
  Planner(CausalLm& model, const TrainerOptions& options, const MemoryWorkload& workload)
      : model_(model),
        options_(options),
        workload_(workload),
        adapter_(options.adapter.get()),
        elsewhere_(!model.device().is_cpu()) {
    ParameterStore& base = model.parameters();
    ParameterStore& trained = options.adapter ? options.adapter->parameters() : base;
    const bool offloaded = base.is_offloaded(), values_there = elsewhere_ && !offloaded;
    const int64_t packed = PackedBytes(model), masters = 4 * base.num_parameters();
    const int64_t gradients = 4 * trained.num_parameters();
    int64_t others = ResidentBytes() - ReusableHeap() - (values_there ? 0 : masters);
    if (!elsewhere_) others -= packed + (trained.grads().defined() ? gradients : 0);
    fixed_ = {
        {"process", std::max<int64_t>(0, others) + kFirstStep, "libraries, tokenizer, data"},
        {"weights", masters, "float32 masters", values_there},
        {"versions", packed * NumVersions(), "compute copies of the weights", elsewhere_},
        {"gradients", gradients, "float32", elsewhere_},
        {"optimizer", StateBytes(trained, options.optimizer),
         absl::StrCat(options.optimizer.kind, ", ", options.optimizer.state), values_there},
    };
    if (offloaded) fixed_.push_back({"fetched", gradients, "gradients of a step, copied"});
    if (elsewhere_ && workload.sampled_from)
      fixed_.push_back({"sampler", 2 * packed + (offloaded ? 0 : masters),
                        "the engine's copy of the weights, while the next is made"});
    if (workload.state_cache_bytes > 0)
      fixed_.push_back(
          {"state cache", workload.state_cache_bytes, "keys and values of the engine"});
    already_there_ = values_there ? masters : 0;
  }

  // What its device may be filled up to.
  int64_t DefaultLimit() const {
    if (!elsewhere_) return ResidentBytes() + AvailableBytes() / 10 * 9;
    const int64_t free = FreeBytes(model_.device());
    return free > 0 ? already_there_ + free / 10 * 9 : 0;
  }

  MemoryPlan At(int64_t token_budget) const {
    MemoryPlan plan;
    plan.token_budget = token_budget;
    plan.items = fixed_;
    if (elsewhere_) plan.device = model_.device().str();
    const int64_t tokens = workload_.tokens_per_step > 0
                               ? std::min(token_budget, workload_.tokens_per_step)
                               : token_budget;
    const auto predictions =
        static_cast<int64_t>(static_cast<double>(tokens) * workload_.predicted_part);
    const MicroBatchMemory memory = MemoryOfMicroBatch(
        model_, adapter_,
        {tokens, predictions, std::min(tokens, workload_.longest_row), options_.checkpoint_every});
    plan.items.push_back({"activations", memory.activations,
                          absl::StrCat("of a micro-batch of ", tokens, " tokens"), elsewhere_});
    plan.items.push_back({"workspace", memory.workspace,
                          absl::StrCat("of the backward; chunks of logits take ",
                                       BytesText(memory.logits), " of it"),
                          elsewhere_});
    for (const MemoryItem& item : plan.items)
      (item.on_device == elsewhere_ ? plan.total_bytes : plan.host_bytes) += item.bytes;
    return plan;
  }

 private:
  // An adapter's versions share the base's.
  int64_t NumVersions() const {
    if (adapter_) return 1;
    // On another device nobody samples from them.
    return 1 + workload_.kept_versions + (workload_.sampled_from && !elsewhere_ ? 1 : 0);
  }

  CausalLm& model_;
  const TrainerOptions& options_;
  const MemoryWorkload& workload_;
  const LoraAdapter* const adapter_;
  const bool elsewhere_;
  int64_t already_there_ = 0;  // of the device's memory
  std::vector<MemoryItem> fixed_;
};

std::string Advice(const CausalLm& model, const TrainerOptions& options) {
  std::vector<std::string> ways;
  const bool elsewhere = !model.device().is_cpu(), offloaded = model.parameters().is_offloaded();
  if (elsewhere && !offloaded) ways.push_back("trainer.offload: true");
  if (options.checkpoint_every != 1) ways.push_back("trainer.checkpoint_every: 1");
  if (!options.adapter) ways.push_back("lora.rank: 16");
  if (!elsewhere && options.optimizer.kind == "adamw" && options.optimizer.state != "int8")
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
  const int64_t limit = limit_bytes > 0 ? limit_bytes : planner.DefaultLimit();
  const auto fits = [&](int64_t tokens) {
    return limit == 0 || planner.At(tokens).total_bytes <= limit;
  };
  int64_t low = std::max<int64_t>(1, workload.longest_row);
  int64_t high = std::max(low, options.token_budget);
  if (!fits(low)) {
    MemoryPlan plan = planner.At(low);
    plan.limit_bytes = limit;
    return absl::ResourceExhaustedError(absl::StrCat(
        "trainer.memory_mb: one row of ", low, " tokens needs ", BytesText(plan.total_bytes), ", ",
        BytesText(limit), " may be used. ", Advice(model, options), "\n", MemoryPlanText(plan)));
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
