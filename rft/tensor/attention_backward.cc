#include "rft/tensor/attention_backward.h"

#include <algorithm>

#include "rft/tensor/attention_runs.h"
#include "rft/tensor/prefetch.h"

namespace rft {
namespace {

// Scratch of one task of the backward, reused over the runs of its group.
template <typename T>
struct BackwardBuffers {
  BackwardBuffers(int64_t longest, int64_t most_vectors, const Columns& c) {
    const int64_t blocks = RoundUp(longest, kBlockKeys) / kBlockKeys, padded = blocks * kBlockKeys;
    // The slots past the last key are read, though they are hidden.
    for (Buffer<T>* keys : {&k_blocks, &v_blocks})
      keys->AllocateZeros(blocks * KeyBlockElements<T>(c.d));
    k_rows.AllocateZeros(blocks * ValueBlockElements(c.d));
    for (Buffer<float>* rows : {&dk_rows, &dv_rows}) rows->Allocate(padded * c.dp);
    for (Buffer<T>* vectors : {&q, &dout}) vectors->Allocate(most_vectors * c.dp);
    dq.Allocate(most_vectors * c.dp);
    scratch.Allocate(3 * kAttendBackwardTile * padded);
  }
  Buffer<T> k_blocks, v_blocks, k_rows, q, dout, scratch;
  Buffer<float> dk_rows, dv_rows, dq;
  std::vector<AttentionBackwardRow<T>> rows;
};

// A row of head_dim values, padded with zeros to dp: where it lies, or else copied to `to`.
template <typename T>
const T* Padded(const T* from, const Columns& c, T* to) {
  if (c.d == c.dp) return from;
  std::copy_n(from, c.d, to);
  std::fill(to + c.d, to + c.dp, T{});
  return to;
}

}  // namespace

template <typename T>
void AttendGroupBackward(const AttentionSaved<T>& saved, const T* dout,
                         const std::vector<PackedSequence>& sequences,
                         std::pair<size_t, size_t> range, int64_t kv_head, const HeadLayout& layout,
                         float scale, T* dqkv) {
  const T *qkv = saved.qkv, *out = saved.out;
  const Columns c(layout);
  const auto& kernels = GetKernels().typed<T>();
  int64_t longest = 0, most_vectors = 0;
  for (size_t i = range.first; i < range.second; ++i) {
    longest = std::max(longest, sequences[i].prefix_count + sequences[i].count);
    most_vectors = std::max(most_vectors, sequences[i].count * c.heads_per_kv);
  }
  BackwardBuffers<T> b(longest, most_vectors, c);
  auto store_gradients = [&](int64_t token, int64_t key) {
    kernels.from_float(b.dk_rows.get() + key * c.dp, c.d, dqkv + token * c.width + c.k(kv_head));
    kernels.from_float(b.dv_rows.get() + key * c.dp, c.d, dqkv + token * c.width + c.v(kv_head));
  };
  // The prefix's keys keep their place and their accumulated gradient over all runs of the group. Later runs come first so
  // that the first run, whose own keys the prefix is, closes the sum.
  int64_t kept =
      0;  // keys [0, kept), the prefix, and the sums of their gradients are in the buffers
  for (size_t n = range.second; n-- > range.first;) {
    const PackedSequence& s = sequences[n];
    const int64_t keys = s.prefix_count + s.count;
    const int64_t block = kept / kBlockKeys;
    GatherKeyBlocks(qkv + c.k(kv_head), s, c, kept, keys,
                    b.k_blocks.get() + block * KeyBlockElements<T>(c.d));
    GatherKeyBlocks(qkv + c.v(kv_head), s, c, kept, keys,
                    b.v_blocks.get() + block * KeyBlockElements<T>(c.d));
    GatherValueBlocks(qkv + c.k(kv_head), s, c, kept, keys,
                      b.k_rows.get() + block * ValueBlockElements(c.d));
    std::fill(b.dk_rows.get() + kept * c.dp, b.dk_rows.get() + keys * c.dp, 0.0f);
    std::fill(b.dv_rows.get() + kept * c.dp, b.dv_rows.get() + keys * c.dp, 0.0f);
    kept = s.prefix_count;

    const int64_t vectors = s.count * c.heads_per_kv;
    b.rows.clear();
    for (int64_t t = 0; t < s.count; ++t) {
      const int64_t ahead = s.begin + t + kRowsAhead, query = c.q(kv_head, 0);
      for (const T* row : {qkv + ahead * c.width, dout + ahead * layout.num_heads * c.d,
                           out + ahead * layout.num_heads * c.d})
        PrefetchRow(row + query, c.heads_per_kv * c.d);
      for (int64_t h = 0; h < c.heads_per_kv; ++h) {
        const int64_t token = s.begin + t, head = kv_head * c.heads_per_kv + h,
                      at = b.rows.size() * c.dp;
        const int64_t position = token * layout.num_heads * c.d + head * c.d;
        const T* q = Padded(qkv + token * c.width + c.q(kv_head, h), c, b.q.get() + at);
        const T* own_dout = Padded(dout + position, c, b.dout.get() + at);
        const float delta = kernels.dot(dout + position, out + position, c.d);
        const int64_t stat = token * layout.num_heads + head, limit = s.prefix_count + t + 1;
        b.rows.push_back({q, own_dout, delta, saved.max[stat], saved.sum[stat], limit,
                          b.dq.get() + at, layout.FirstKey(limit - 1),
                          saved.selected->Of(token, limit)});
      }
    }
    AttentionBackwardArgs<T> args;
    args.head_dim = c.d;
    args.num_keys = keys;
    args.scale = scale;
    args.k_blocks = b.k_blocks.get();
    args.v_blocks_t = b.v_blocks.get();
    args.k_rows = b.k_rows.get();
    args.dk_rows = b.dk_rows.get();
    args.dv_rows = b.dv_rows.get();
    args.scratch = b.scratch.get();
    kernels.attend_backward(b.rows.data(), vectors, args);
    for (int64_t v = 0; v < vectors; ++v)
      kernels.from_float(
          b.dq.get() + v * c.dp, c.d,
          dqkv + (s.begin + v / c.heads_per_kv) * c.width + c.q(kv_head, v % c.heads_per_kv));
    for (int64_t t = 0; t < s.count; ++t) store_gradients(s.begin + t, s.prefix_count + t);
  }
}
template void AttendGroupBackward<float>(const AttentionSaved<float>&, const float*,
                                         const std::vector<PackedSequence>&,
                                         std::pair<size_t, size_t>, int64_t, const HeadLayout&,
                                         float, float*);
template void AttendGroupBackward<Bf16>(const AttentionSaved<Bf16>&, const Bf16*,
                                        const std::vector<PackedSequence>&,
                                        std::pair<size_t, size_t>, int64_t, const HeadLayout&,
                                        float, Bf16*);

}  // namespace rft
