#include "rft/tensor/attention.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/attention_backward.h"
#include "rft/tensor/attention_runs.h"
#include "rft/tensor/composite.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/key_blocks.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"

namespace rft {
namespace {

using Sequences = std::vector<PackedSequence>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// [first, last) of the runs of each group.
std::vector<std::pair<size_t, size_t>> GroupRanges(const Sequences& sequences) {
  std::vector<std::pair<size_t, size_t>> ranges;
  for (size_t i = 0; i < sequences.size();) {
    size_t j = i + 1;
    while (j < sequences.size() && sequences[j].group == sequences[i].group) ++j;
    ranges.emplace_back(i, j);
    i = j;
  }
  return ranges;
}

// Multiply-adds of the scores and the weighted values.
int64_t AttentionWork(const Sequences& sequences, const HeadLayout& layout) {
  int64_t pairs = 0;
  for (const PackedSequence& s : sequences) pairs += s.count * (s.prefix_count + s.count);
  return 2 * pairs * layout.num_heads * layout.head_dim;
}

template <typename T>
void AttendGroup(const T* qkv, const Sequences& sequences, std::pair<size_t, size_t> range,
                 int64_t kv_head, const HeadLayout& layout, const SelectedKeys& selected,
                 float scale, T* out, float* max, float* sum) {
  const Columns c(layout);
  const int64_t k_block = KeyBlockElements<T>(c.d), v_block = ValueBlockElements(c.d);
  Buffer<T> first_k, first_v, own_k, own_v;  // blocks of the group's first run, and of the current
  std::vector<const T*> k_blocks, v_blocks;
  std::vector<AttentionRow<T>> rows;
  std::vector<float> scratch;
  for (size_t i = range.first; i < range.second; ++i) {
    const PackedSequence& s = sequences[i];
    const int64_t keys = s.prefix_count + s.count, blocks = RoundUp(keys, kBlockKeys) / kBlockKeys;
    // Whole blocks of the shared prefix are used where they lie; the rest is gathered.
    const int64_t shared = i == range.first ? 0 : s.prefix_count / kBlockKeys;
    T* k = (i == range.first ? first_k : own_k).Allocate((blocks - shared) * k_block);
    T* v = (i == range.first ? first_v : own_v).Allocate((blocks - shared) * v_block);
    // The slots past the last key are read, though their scores are hidden.
    std::fill_n(k + (blocks - shared - 1) * k_block, k_block, T{});
    const int64_t from = shared * kBlockKeys;
    GatherKeyBlocks(qkv + c.k(kv_head), s, c, from, keys, k);
    GatherValueBlocks(qkv + c.v(kv_head), s, c, from, keys, v);
    k_blocks.resize(blocks);
    v_blocks.resize(blocks);
    for (int64_t b = 0; b < blocks; ++b) {
      k_blocks[b] = b < shared ? first_k.get() + b * k_block : k + (b - shared) * k_block;
      v_blocks[b] = b < shared ? first_v.get() + b * v_block : v + (b - shared) * v_block;
    }
    k_blocks.resize(blocks + kBlocksAhead, v_blocks[0]);
    v_blocks.resize(blocks + kBlocksAhead, k_blocks[0]);
    rows.clear();
    for (int64_t t = 0; t < s.count; ++t) {
      PrefetchRow(qkv + (s.begin + t + kRowsAhead) * c.width + c.q(kv_head, 0),
                  c.heads_per_kv * c.d);
      for (int64_t h = 0; h < c.heads_per_kv; ++h) {
        const int64_t token = s.begin + t, head = kv_head * c.heads_per_kv + h;
        const int64_t stat = token * layout.num_heads + head, limit = s.prefix_count + t + 1;
        rows.push_back({qkv + token * c.width + c.q(kv_head, h),
                        out + token * layout.num_heads * c.d + head * c.d, limit,
                        max ? max + stat : nullptr, sum ? sum + stat : nullptr,
                        layout.FirstKey(limit - 1), selected.Of(token, limit)});
      }
    }
    scratch.resize(AttendScratch(keys, c.d));
    GetKernels().typed<T>().attend(rows.data(), static_cast<int64_t>(rows.size()), k_blocks.data(),
                                   v_blocks.data(), c.d, scale, scratch.data());
  }
}

at::Tensor AttendForward(const at::Tensor& qkv, const Sequences& sequences,
                         const HeadLayout& layout, const SelectedKeys& selected, double scale,
                         at::Tensor* max, at::Tensor* sum) {
  const int64_t t = qkv.size(0);
  at::Tensor out = at::empty({t, layout.num_heads * layout.head_dim}, qkv.options());
  if (max) {
    *max = at::empty({t, layout.num_heads}, qkv.options().dtype(at::kFloat));
    *sum = at::empty({t, layout.num_heads}, qkv.options().dtype(at::kFloat));
  }
  const auto groups = GroupRanges(sequences);
  DispatchFloat(qkv.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    ParallelTasks(static_cast<int64_t>(groups.size()) * layout.num_kv_heads,
                  AttentionWork(sequences, layout), [&](int64_t task) {
                    AttendGroup(Data<T>(qkv), sequences, groups[task / layout.num_kv_heads],
                                task % layout.num_kv_heads, layout, selected,
                                static_cast<float>(scale), Data<T>(out),
                                max ? Data<float>(*max) : nullptr,
                                sum ? Data<float>(*sum) : nullptr);
                  });
  });
  return out;
}

// Keeps the runs alive for the backward: saved_data holds tensors and numbers only.
struct SequencesHolder : torch::CustomClassHolder {
  std::shared_ptr<const Sequences> sequences;
  SelectedKeys selected;
};

struct AttendFunction : torch::autograd::Function<AttendFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv,
                            std::shared_ptr<const Sequences> sequences, HeadLayout layout,
                            SelectedKeys selected, double scale) {
    at::Tensor max, sum;
    at::Tensor out = AttendForward(qkv, *sequences, layout, selected, scale, &max, &sum);
    ctx->save_for_backward({qkv, out, max, sum});
    auto holder = c10::make_intrusive<SequencesHolder>();
    holder->sequences = std::move(sequences);
    holder->selected = std::move(selected);
    ctx->saved_data["sequences"] = c10::IValue::make_capsule(std::move(holder));
    ctx->saved_data["heads"] = layout.num_heads;
    ctx->saved_data["kv_heads"] = layout.num_kv_heads;
    ctx->saved_data["head_dim"] = layout.head_dim;
    ctx->saved_data["window"] = layout.window;
    ctx->saved_data["scale"] = scale;
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &qkv = saved[0], &out = saved[1], &max = saved[2], &sum = saved[3];
    const auto capsule = ctx->saved_data["sequences"].toCapsule();
    const auto* holder = static_cast<SequencesHolder*>(capsule.get());
    const Sequences& sequences = *holder->sequences;
    const HeadLayout layout{ctx->saved_data["heads"].toInt(), ctx->saved_data["kv_heads"].toInt(),
                            ctx->saved_data["head_dim"].toInt(), ctx->saved_data["window"].toInt()};
    const auto scale = static_cast<float>(ctx->saved_data["scale"].toDouble());
    const at::Tensor dout = grads[0].contiguous();
    at::Tensor dqkv = at::empty_like(qkv);
    const auto groups = GroupRanges(sequences);
    DispatchFloat(qkv.scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const AttentionSaved<T> held{Data<T>(qkv), Data<T>(out), Data<float>(max), Data<float>(sum),
                                   &holder->selected};
      ParallelTasks(static_cast<int64_t>(groups.size()) * layout.num_kv_heads,
                    AttentionWork(sequences, layout), [&](int64_t task) {
                      AttendGroupBackward(held, Data<T>(dout), sequences,
                                          groups[task / layout.num_kv_heads],
                                          task % layout.num_kv_heads, layout, scale, Data<T>(dqkv));
                    });
    });
    return {dqkv, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

PackedAttention::PackedAttention(std::vector<PackedSequence> sequences) {
  for (size_t i = 0, first = 0; i < sequences.size(); ++i) {
    if (i > 0 && sequences[i].group != sequences[i - 1].group) first = i;
    const PackedSequence &s = sequences[i], &f = sequences[first];
    TORCH_CHECK(s.count > 0 && s.prefix_count >= 0, "packed attention: run ", i, " is empty");
    TORCH_CHECK(i == first ? s.prefix_count == 0
                           : s.prefix_begin == f.begin && s.prefix_count > 0 &&
                                 s.prefix_count <= f.count &&
                                 s.prefix_count == sequences[first + 1].prefix_count,
                "packed attention: the prefix of run ", i,
                " must be the start of its group's first run, equal for all");
  }
  sequences_ = std::make_shared<const Sequences>(std::move(sequences));
}

void PackedAttention::Select(int64_t layer, const Indexer& indexer) {
  const auto [place, first_time] = selected_.try_emplace(layer);
  if (first_time) place->second = SelectKeysOfRuns(indexer, *sequences_);
}

at::Tensor PackedAttention::Attend(int64_t layer, const at::Tensor& qkv_TX,
                                   const HeadLayout& layout, double scale) {
  TORCH_CHECK(qkv_TX.is_contiguous() && qkv_TX.size(1) == layout.width() &&
                  layout.num_heads % layout.num_kv_heads == 0,
              "attention: expected a contiguous [T, ", layout.width(), "], got ", qkv_TX.sizes());
  const auto after = selected_.upper_bound(layer);
  const SelectedKeys selected =
      after == selected_.begin() ? SelectedKeys{} : std::prev(after)->second;
  if (!qkv_TX.is_cpu())
    return ops::composite::Attend(qkv_TX, *sequences_, layout, selected.visible, scale);
  if (ops::Recording(qkv_TX))
    return AttendFunction::apply(qkv_TX, sequences_, layout, selected, scale);
  return AttendForward(qkv_TX, *sequences_, layout, selected, scale, nullptr, nullptr);
}

}  // namespace rft
