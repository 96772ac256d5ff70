#include "rft/tensor/attention.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/key_blocks.h"
#include "rft/tensor/parallel.h"

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

// Row of the packed stream that holds logical key `j` of a run.
int64_t TokenOf(const PackedSequence& s, int64_t j) {
  return j < s.prefix_count ? s.prefix_begin + j : s.begin + (j - s.prefix_count);
}

// Columns of the fused projection.
struct Columns {
  int64_t width, d, dp, heads_per_kv, k0, v0;
  explicit Columns(const HeadLayout& l)
      : width(l.width()),
        d(l.head_dim),
        dp(RoundUp(l.head_dim, kBlockKeys)),
        heads_per_kv(l.num_heads / l.num_kv_heads),
        k0(l.num_heads * l.head_dim),
        v0((l.num_heads + l.num_kv_heads) * l.head_dim) {}
  int64_t q(int64_t kv_head, int64_t h) const { return (kv_head * heads_per_kv + h) * d; }
  int64_t k(int64_t kv_head) const { return k0 + kv_head * d; }
  int64_t v(int64_t kv_head) const { return v0 + kv_head * d; }
};

template <typename T>
void AttendGroup(const T* qkv, const Sequences& sequences, std::pair<size_t, size_t> range,
                 int64_t kv_head, const HeadLayout& layout, float scale, T* out, float* max,
                 float* sum) {
  const Columns c(layout);
  const int64_t k_block = c.d * kBlockKeys, v_block = kBlockKeys * c.dp;
  std::vector<T> first_k, first_v, k_own,
      v_own;  // blocks of the group's first run, and of the current one
  std::vector<const T*> k_blocks, v_blocks;
  std::vector<AttentionRow<T>> rows;
  std::vector<float> scratch;
  for (size_t i = range.first; i < range.second; ++i) {
    const PackedSequence& s = sequences[i];
    const int64_t keys = s.prefix_count + s.count, blocks = RoundUp(keys, kBlockKeys) / kBlockKeys;
    // Whole blocks of the shared prefix are used where they lie; the rest is gathered.
    const int64_t shared = i == range.first ? 0 : s.prefix_count / kBlockKeys;
    std::vector<T>& k = i == range.first ? first_k : k_own;
    std::vector<T>& v = i == range.first ? first_v : v_own;
    k.resize((blocks - shared) * k_block);
    v.resize((blocks - shared) * v_block);
    for (int64_t j = shared * kBlockKeys; j < keys; ++j) {
      const T* row = qkv + TokenOf(s, j) * c.width;
      const int64_t b = j / kBlockKeys - shared;
      StoreKey(row + c.k(kv_head), c.d, j % kBlockKeys, k.data() + b * k_block);
      StoreValue(row + c.v(kv_head), c.d, j % kBlockKeys, v.data() + b * v_block);
    }
    k_blocks.resize(blocks);
    v_blocks.resize(blocks);
    for (int64_t b = 0; b < blocks; ++b) {
      k_blocks[b] = b < shared ? first_k.data() + b * k_block : k.data() + (b - shared) * k_block;
      v_blocks[b] = b < shared ? first_v.data() + b * v_block : v.data() + (b - shared) * v_block;
    }
    k_blocks.resize(blocks + kBlocksAhead, v_blocks[0]);
    v_blocks.resize(blocks + kBlocksAhead, k_blocks[0]);
    rows.clear();
    for (int64_t t = 0; t < s.count; ++t)
      for (int64_t h = 0; h < c.heads_per_kv; ++h) {
        const int64_t token = s.begin + t, head = kv_head * c.heads_per_kv + h;
        const int64_t stat = token * layout.num_heads + head;
        rows.push_back({qkv + token * c.width + c.q(kv_head, h),
                        out + token * layout.num_heads * c.d + head * c.d, s.prefix_count + t + 1,
                        max ? max + stat : nullptr, sum ? sum + stat : nullptr,
                        layout.FirstKey(s.prefix_count + t)});
      }
    scratch.resize(AttendScratch(keys, c.d));
    GetKernels().typed<T>().attend(rows.data(), static_cast<int64_t>(rows.size()), k_blocks.data(),
                                   v_blocks.data(), c.d, scale, scratch.data());
  }
}

// Scratch of one task of the backward, reused over the runs of its group.
struct BackwardBuffers {
  std::vector<float> k_blocks, v_blocks, k_rows, dk_rows, dv_rows, q, dout, dq, scratch;
  std::vector<AttentionBackwardRow> rows;
};

template <typename T>
void AttendGroupBackward(const T* qkv, const T* out, const T* dout, const float* max,
                         const float* sum, const Sequences& sequences,
                         std::pair<size_t, size_t> range, int64_t kv_head, const HeadLayout& layout,
                         float scale, T* dqkv) {
  const Columns c(layout);
  const auto& kernels = GetKernels().typed<T>();
  BackwardBuffers b;
  int64_t longest = 0;
  for (size_t i = range.first; i < range.second; ++i)
    longest = std::max(longest, sequences[i].prefix_count + sequences[i].count);
  const int64_t padded = RoundUp(longest, kBlockKeys);
  b.k_blocks.assign(padded * c.d, 0.0f);
  b.v_blocks.assign(padded * c.d, 0.0f);
  b.k_rows.assign(padded * c.dp, 0.0f);
  b.dk_rows.assign(padded * c.dp, 0.0f);
  b.dv_rows.assign(padded * c.dp, 0.0f);
  b.scratch.resize(4 * 2 * padded);
  auto store_gradients = [&](int64_t token, int64_t key) {
    kernels.from_float(b.dk_rows.data() + key * c.dp, c.d, dqkv + token * c.width + c.k(kv_head));
    kernels.from_float(b.dv_rows.data() + key * c.dp, c.d, dqkv + token * c.width + c.v(kv_head));
  };
  // The prefix's keys keep their place and their accumulated gradient over all runs of the group. Later runs come first so
  // that the first run, whose own keys the prefix is, closes the sum.
  int64_t loaded = 0;  // keys [0, loaded) of the group's first run are in the buffers
  for (size_t n = range.second; n-- > range.first;) {
    const PackedSequence& s = sequences[n];
    const bool is_first = n == range.first;
    const int64_t keys = s.prefix_count + s.count, own0 = is_first ? 0 : s.prefix_count;
    auto load = [&](int64_t from, int64_t to) {
      for (int64_t j = from; j < to; ++j) {
        const T* row = qkv + TokenOf(s, j) * c.width;
        const int64_t block = j / kBlockKeys * c.d * kBlockKeys;
        StoreKey(row + c.k(kv_head), c.d, j % kBlockKeys, b.k_blocks.data() + block);
        StoreKey(row + c.v(kv_head), c.d, j % kBlockKeys, b.v_blocks.data() + block);
        kernels.to_float(row + c.k(kv_head), c.d, b.k_rows.data() + j * c.dp);
      }
    };
    if (is_first) {
      load(std::min(loaded, keys), keys);
    } else {
      load(std::min(loaded, s.prefix_count), keys);
      loaded = s.prefix_count;
    }
    const int64_t fresh = is_first ? loaded : own0;  // rows whose accumulators start at zero
    std::fill(b.dk_rows.begin() + fresh * c.dp, b.dk_rows.begin() + keys * c.dp, 0.0f);
    std::fill(b.dv_rows.begin() + fresh * c.dp, b.dv_rows.begin() + keys * c.dp, 0.0f);

    const int64_t vectors = s.count * c.heads_per_kv;
    b.q.assign(vectors * c.dp, 0.0f);
    b.dout.assign(vectors * c.dp, 0.0f);
    b.dq.resize(vectors * c.dp);
    b.rows.clear();
    for (int64_t t = 0; t < s.count; ++t)
      for (int64_t h = 0; h < c.heads_per_kv; ++h) {
        const int64_t token = s.begin + t, head = kv_head * c.heads_per_kv + h,
                      at = b.rows.size() * c.dp;
        const int64_t position = token * layout.num_heads * c.d + head * c.d;
        kernels.to_float(qkv + token * c.width + c.q(kv_head, h), c.d, b.q.data() + at);
        kernels.to_float(dout + position, c.d, b.dout.data() + at);
        float delta = 0.0f;
        for (int64_t d = 0; d < c.d; ++d) delta += b.dout[at + d] * ToFloat(out[position + d]);
        const int64_t stat = token * layout.num_heads + head;
        b.rows.push_back({b.q.data() + at, b.dout.data() + at, delta, max[stat], sum[stat],
                          s.prefix_count + t + 1, b.dq.data() + at,
                          layout.FirstKey(s.prefix_count + t)});
      }
    AttentionBackwardArgs args;
    args.head_dim = c.d;
    args.num_keys = keys;
    args.scale = scale;
    args.k_blocks = b.k_blocks.data();
    args.v_blocks_t = b.v_blocks.data();
    args.k_rows = b.k_rows.data();
    args.dk_rows = b.dk_rows.data();
    args.dv_rows = b.dv_rows.data();
    args.scratch = b.scratch.data();
    GetKernels().attend_backward(b.rows.data(), vectors, args);
    for (int64_t v = 0; v < vectors; ++v)
      kernels.from_float(
          b.dq.data() + v * c.dp, c.d,
          dqkv + (s.begin + v / c.heads_per_kv) * c.width + c.q(kv_head, v % c.heads_per_kv));
    for (int64_t t = 0; t < s.count; ++t) store_gradients(s.begin + t, s.prefix_count + t);
  }
}

at::Tensor AttendForward(const at::Tensor& qkv, const Sequences& sequences,
                         const HeadLayout& layout, double scale, at::Tensor* max, at::Tensor* sum) {
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
                                task % layout.num_kv_heads, layout, static_cast<float>(scale),
                                Data<T>(out), max ? Data<float>(*max) : nullptr,
                                sum ? Data<float>(*sum) : nullptr);
                  });
  });
  return out;
}

// Keeps the runs alive for the backward: saved_data holds tensors and numbers only.
struct SequencesHolder : torch::CustomClassHolder {
  std::shared_ptr<const Sequences> sequences;
};

struct AttendFunction : torch::autograd::Function<AttendFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv,
                            std::shared_ptr<const Sequences> sequences, HeadLayout layout,
                            double scale) {
    at::Tensor max, sum;
    at::Tensor out = AttendForward(qkv, *sequences, layout, scale, &max, &sum);
    ctx->save_for_backward({qkv, out, max, sum});
    auto holder = c10::make_intrusive<SequencesHolder>();
    holder->sequences = std::move(sequences);
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
    const Sequences& sequences = *static_cast<SequencesHolder*>(capsule.get())->sequences;
    const HeadLayout layout{ctx->saved_data["heads"].toInt(), ctx->saved_data["kv_heads"].toInt(),
                            ctx->saved_data["head_dim"].toInt(), ctx->saved_data["window"].toInt()};
    const auto scale = static_cast<float>(ctx->saved_data["scale"].toDouble());
    const at::Tensor dout = grads[0].contiguous();
    at::Tensor dqkv = at::empty_like(qkv);
    const auto groups = GroupRanges(sequences);
    DispatchFloat(qkv.scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      ParallelTasks(static_cast<int64_t>(groups.size()) * layout.num_kv_heads,
                    AttentionWork(sequences, layout), [&](int64_t task) {
                      AttendGroupBackward(Data<T>(qkv), Data<T>(out), Data<T>(dout),
                                          Data<float>(max), Data<float>(sum), sequences,
                                          groups[task / layout.num_kv_heads],
                                          task % layout.num_kv_heads, layout, scale, Data<T>(dqkv));
                    });
    });
    return {dqkv, at::Tensor(), at::Tensor(), at::Tensor()};
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

at::Tensor PackedAttention::Attend(int64_t, const at::Tensor& qkv_TX, const HeadLayout& layout,
                                   double scale) {
  TORCH_CHECK(qkv_TX.is_contiguous() && qkv_TX.size(1) == layout.width() &&
                  layout.num_heads % layout.num_kv_heads == 0,
              "attention: expected a contiguous [T, ", layout.width(), "], got ", qkv_TX.sizes());
  if (at::GradMode::is_enabled() && qkv_TX.requires_grad())
    return AttendFunction::apply(qkv_TX, sequences_, layout, scale);
  return AttendForward(qkv_TX, *sequences_, layout, scale, nullptr, nullptr);
}

}  // namespace rft
