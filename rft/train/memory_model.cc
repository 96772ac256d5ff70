#include "rft/train/memory_model.h"

#include <algorithm>
#include <initializer_list>

#include "absl/strings/match.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

constexpr int64_t kFloat = 4, kInt = 4, kLong = 8;
// Of AccumulateWeightGradient (rft/tensor/linear_backward.cc); of the tokens, a busy expert has so many times its share.
constexpr int64_t kTokenBlock = 2048, kBusyExpert = 2;

// Sizes of one model, with the shape suffixes of the code: C bytes of the compute type, H hidden, I feed-forward, W fused
// attention projection, Q attention output.
struct Sizes {
  const ModelConfig& config;
  const LoraAdapter* adapter;
  int64_t c, h, i, w, q, heads, v;
  bool qk_norm, elsewhere;

  Sizes(const CausalLm& model, const LoraAdapter* lora)
      : config(model.config()),
        adapter(lora),
        c(static_cast<int64_t>(c10::elementSize(model.dtype()))),
        h(config.hidden_size),
        i(config.intermediate_size),
        w(model.head_layout().width()),
        q(config.num_heads * config.head_dim),
        heads(config.num_heads + config.num_kv_heads),
        v(config.vocab_size),
        qk_norm(model.parameters().Find(config.LayerPrefix(0) + ".self_attn.q_norm.weight") !=
                nullptr),
        elsewhere(!model.device().is_cpu()) {}

  bool sparse(int64_t layer) const { return config.moe && config.moe->sparse_layers[layer]; }

  // What only an adapter makes the forward keep: the input of the projection that it adapts.
  int64_t IfAdapted(std::initializer_list<const char*> modules, int64_t bytes) const {
    if (adapter == nullptr) return 0;
    for (const LoraTarget& target : adapter->targets())
      for (const char* module : modules)
        if (absl::EndsWith(target.module, module)) return bytes;
    return 0;
  }

  // Saved per token by the attention half: the residual and its norm's scale, the projection (twice with q/k norms),
  // attention's output and its softmax statistics.
  int64_t AttentionHalf() const {
    int64_t bytes = kFloat * h + kFloat + c * w + c * q + 2 * kFloat * config.num_heads +
                    IfAdapted({"q_proj", "k_proj", "v_proj"}, c * h);
    if (qk_norm) bytes += c * w + kFloat * heads;
    // The projection's input; attention's result once more, packed; in float32 a key and value head for every query head.
    if (elsewhere) bytes += c * (h + q) + (c == kFloat ? 2 * c * q : 0);
    if (elsewhere && qk_norm) bytes += (kFloat - c) * w;  // normed in float32
    // Each latent in float32 and its norm; the values without their padding.
    if (const auto& latent = config.latent)
      bytes += (kFloat + c) * (latent->q_rank + latent->kv_rank) + 2 * kFloat +
               c * config.num_heads * latent->value;
    return bytes;
  }
  // Residual, its norm's scale, gate and up.
  int64_t DenseHalf() const { return kFloat * h + kFloat + FeedForward(i); }
  // [gate | up]; the input and the activation are computed again.
  int64_t FeedForward(int64_t width) const {
    if (elsewhere) return c * (2 * width + h + width);  // input and activation are kept
    return 2 * c * width + IfAdapted({"gate_proj", "up_proj"}, c * h) +
           IfAdapted({"down_proj"}, c * width);
  }
  // Residual, norm, the router's float32 input (its own copy in bf16), logits, choices and weights; [gate | up] and three
  // indices per (token, expert) pair; the shared expert.
  int64_t SparseHalf() const {
    const MoeConfig& moe = *config.moe;
    const int64_t k = moe.router.top_k, e = moe.router.num_experts;
    int64_t bytes = kFloat * h + kFloat + c * h + (c == kFloat ? 0 : kFloat * h) + kFloat * e +
                    k * (kInt + 2 * kFloat + 2 * c * moe.expert_intermediate + kInt + kLong);
    if (moe.shared_intermediate > 0) bytes += kFloat * h + FeedForward(moe.shared_intermediate);
    // Of each pair the input, the activation and the result in float32.
    if (elsewhere) bytes += k * (c * h + c * moe.expert_intermediate + kFloat * h);
    return bytes;
  }
  // Each adapted projection keeps its low-rank middle.
  int64_t AdapterPart() const {
    if (adapter == nullptr) return 0;
    return c * adapter->config().rank * static_cast<int64_t>(adapter->targets().size()) /
           config.num_layers;
  }
  // Which keys each token attends to: a bit each; bytes on another device. Kept whether or not the layer is computed again.
  int64_t Selection(int64_t layer, int64_t longest) const {
    if (!config.indexer || !config.indexer->choosing[layer] || longest <= config.indexer->top_k)
      return 0;
    return elsewhere ? longest : (longest + kBlockKeys - 1) / kBlockKeys * 2;
  }
  // Bytes kept of a layer's `tokens`, of which `rows` go on after attention.
  int64_t Layer(int64_t layer, int64_t tokens, int64_t rows) const {
    // The attended rows once more where not all go on.
    return tokens * AttentionHalf() + (rows < tokens ? rows * c * q : 0) +
           rows * ((sparse(layer) ? SparseHalf() : DenseHalf()) + AdapterPart());
  }
};

// The most that the backward of one feed-forward takes beyond what the forward kept, at three moments: the gradient of the
// activation (computed again; with the weight packed transposed, and a block of the activation packed for the weight's gradient),
// that of [gate | up], that of the input, by when [gate | up] has been freed.
int64_t DenseWorkspace(const Sizes& s, int64_t tokens, bool frozen) {
  const int64_t block = frozen ? 0 : std::min(tokens, kTokenBlock);
  const int64_t down = tokens * (s.h + s.i) + s.i * s.h + block * s.i;
  const int64_t gate_up = tokens * (s.h + 3 * s.i);
  const int64_t input = tokens * 2 * s.h + 2 * s.i * s.h + block * s.h;
  return s.c * std::max({down, gate_up, input}) + kFloat * tokens * s.h;
}

// The same for experts. Of each (token, expert) pair the gradient of the input in float32, summed by token at the end, and for
// adapters that of [gate | up]; of the experts that threads are at, the gradients of output, activation and [gate | up], the
// weighted activation, weights packed transposed and a block packed for a weight's gradient. Or the forward's activations and
// outputs of the pairs, if these take more.
int64_t SparseWorkspace(const Sizes& s, int64_t tokens, bool frozen) {
  const MoeConfig& moe = *s.config.moe;
  const int64_t width = moe.expert_intermediate, pairs = tokens * moe.router.top_k;
  const int64_t rows = std::min(pairs, NumThreads() * kBusyExpert * pairs / moe.router.num_experts);
  const int64_t block = frozen ? 0 : std::min(rows, kTokenBlock);
  const int64_t forward = pairs * (s.c * width + kFloat * s.h);
  const int64_t backward =
      kFloat * (pairs + tokens) * s.h +
      s.IfAdapted({"gate_proj", "up_proj"}, s.c * 2 * pairs * width) +
      s.c * (rows * (s.h + 4 * width) + 2 * width * s.h + block * std::max(width, s.h)) +
      (s.c == kFloat ? 0 : s.c * tokens * s.h);
  return std::max(forward, backward) + kFloat * tokens * s.h;
}

// Of torch's operations: the feed-forward's activation and its gradient in float32, made again; then a weight's gradient.
int64_t WorkspaceElsewhere(const Sizes& s, int64_t tokens, bool frozen) {
  int64_t width = s.i, rows = tokens;
  if (s.config.moe) {
    width = std::max(width, s.config.moe->expert_intermediate);
    rows = std::max(rows, tokens * s.config.moe->router.top_k / s.config.moe->router.num_experts);
  }
  return rows * (7 * kFloat * width + 2 * s.c * width + 2 * kFloat * s.h) +
         (frozen ? 0 : s.c * 2 * width * s.h);
}

int64_t LayerWorkspace(const Sizes& s, int64_t tokens, bool frozen) {
  if (s.elsewhere) return WorkspaceElsewhere(s, tokens, frozen);
  return s.config.moe ? SparseWorkspace(s, tokens, frozen) : DenseWorkspace(s, tokens, frozen);
}

int64_t LogitChunkBytes(const Sizes& s, int64_t predictions) {
  const int64_t rows = std::min(predictions, ops::LogitsChunkRows(s.v));
  return rows * s.v * (kFloat + s.c);
}

int64_t HeadWorkspace(const Sizes& s, const MicroBatchShape& shape, bool frozen) {
  const int64_t rows = std::min(shape.predictions, ops::LogitsChunkRows(s.v));
  const int64_t block = frozen ? 0 : std::min(rows, kTokenBlock);
  if (s.elsewhere)  // logits, their log-softmax and both gradients; the head in float32, and its gradient
    return kFloat * (4 * rows * s.v + (frozen ? 1 : 2) * s.v * s.h);
  return LogitChunkBytes(s, shape.predictions) +
         s.c * (s.v * s.h + block * s.h + shape.predictions * s.h);
}

// Of one (group, head) per thread: keys and values, queries and their gradients in the compute dtype; sums in float32.
int64_t AttentionWorkspace(const Sizes& s, int64_t longest) {
  constexpr int64_t kRow = 64;  // bytes that describe a query vector
  const int64_t d = s.config.head_dim, padded = (d + kBlockKeys - 1) / kBlockKeys * kBlockKeys;
  const int64_t per_kv = s.config.num_heads / s.config.num_kv_heads;
  return NumThreads() * longest *
         (s.c * (2 * d + padded + 3 * kAttendBackwardTile) + 2 * kFloat * padded +
          per_kv * ((2 * s.c + kFloat) * padded + kRow));
}

}  // namespace

MicroBatchMemory MemoryOfMicroBatch(const CausalLm& model, const LoraAdapter* adapter,
                                    const MicroBatchShape& shape) {
  const Sizes s(model, adapter);
  const bool frozen = adapter != nullptr;
  // From the top down, a layer's activations are freed when its backward is done; one that is computed again lives beside what
  // is kept of the layers below it.
  MicroBatchMemory memory;
  int64_t kept = 4 * kLong * shape.tokens, peak = 0;
  for (int64_t l = 0; l < s.config.num_layers; ++l) {
    const bool again =
        shape.checkpoint_every > 0 && l % shape.checkpoint_every == 0 && !s.sparse(l);
    const int64_t rows = l + 1 == s.config.num_layers ? shape.predictions : shape.tokens,
                  layer = s.Layer(l, shape.tokens, rows);
    peak = std::max(peak, kept + layer + LayerWorkspace(s, rows, frozen));
    kept += again ? shape.tokens * kFloat * s.h : layer;
    kept += shape.tokens * s.Selection(l, shape.longest_row);
  }
  // Ids and positions are kept besides; then the predictions' last residuals, norms and statistics.
  memory.activations = kept + shape.predictions * (kFloat * s.h + kFloat + s.c * s.h + 6 * kFloat);
  memory.logits = LogitChunkBytes(s, shape.predictions);
  peak = std::max(peak, memory.activations + HeadWorkspace(s, shape, frozen));
  memory.workspace = peak - memory.activations;
  if (!s.elsewhere) memory.workspace += AttentionWorkspace(s, shape.longest_row);
  // The indexer's queries and keys, and its keys in blocks.
  if (const auto& indexer = s.config.indexer; indexer && shape.longest_row > indexer->top_k)
    memory.workspace += shape.tokens * s.c * (indexer->heads + 2) * indexer->dim;
  return memory;
}

int64_t PackedBytes(const CausalLm& model) {
  const Sizes s(model, nullptr);
  int64_t matrices = 0;
  for (const auto* kind : {&model.parameters().all(), &model.parameters().buffers()})
    for (const Parameter& p : *kind)
      if (p.value.dim() > 1) matrices += p.value.numel();
  // The embedding table is copied; where the head is tied it is packed from the same values once more.
  // On another device both are one matrix.
  if (s.config.tie_word_embeddings && !s.elsewhere) matrices += s.v * s.h;
  return s.c * matrices;
}

}  // namespace rft
