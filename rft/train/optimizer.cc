#include "rft/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

constexpr int64_t kChunk = 1 << 16;

// A piece [begin, begin + count) of the arena that is treated alike.
struct Range {
  int64_t begin, count;
  double weight_decay;
};

// Neighbours that are treated alike become one range.
void Append(std::vector<Range>& ranges, int64_t begin, int64_t count, double weight_decay) {
  if (!ranges.empty() && ranges.back().weight_decay == weight_decay &&
      ranges.back().begin + ranges.back().count == begin)
    ranges.back().count += count;
  else
    ranges.push_back({begin, count, weight_decay});
}

// y [M, N] = a [M, K] b; b [K, N] is contiguous or the transpose of a contiguous matrix.
at::Tensor Product(const at::Tensor& a, const at::Tensor& b) {
  if (!a.is_cpu()) return at::mm(a, b);
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  const PackSource<float> source =
      b.is_contiguous() ? RowsSource(Data<float>(b), n) : WeightSource(Data<float>(b), k);
  at::Tensor packed = at::empty({PackedElements<float>(k, n)}, at::kFloat);
  at::Tensor y = at::empty({m, n}, at::kFloat);
  Pack(source, k, n, Data<float>(packed));
  GemmToFloat(Data<float>(a), k, Data<float>(packed), m, k, n, Data<float>(y), n, false);
  return y;
}

bool IsHiddenMatrix(const Parameter& p) {
  return p.value.dim() == 2 && p.name.find("embed_tokens") == std::string::npos &&
         p.name.find("lm_head") == std::string::npos;
}

// Takes as much memory as Muon's step of the largest matrix will, and gives it back: if it runs out, then here, where nothing
// has moved yet.
void TryMemoryForMatrices(const ParameterStore& parameters) {
  int64_t largest = 0;
  for (const Parameter& p : parameters.all())
    if (IsHiddenMatrix(p))
      largest = std::max(largest, PackedElements<float>(p.value.size(0), p.value.size(1)));
  constexpr int kMatrices = 12;  // of this size at once: gradient, momentum, products, sums
  std::vector<at::Tensor> taken;
  const auto options = parameters.values().options();
  for (int i = 0; i < kMatrices; ++i) taken.push_back(at::empty({largest}, options));
}

}  // namespace

at::Tensor Orthogonalize(const at::Tensor& matrix) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  const bool tall = matrix.size(0) > matrix.size(1);
  at::Tensor x = tall ? matrix.t().contiguous() : matrix.clone();
  x = x / (Optimizer::Norm(x.view({-1})) + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor gram = Product(x, x.t());
    const at::Tensor polynomial = gram * kB + Product(gram, gram) * kC;
    x = x * kA + Product(polynomial, x);
  }
  return tall ? x.t().contiguous() : x;
}

absl::Status Optimizer::Check(const OptimizerOptions& options) {
  const std::string& kind = options.kind;
  if (kind != "adamw" && kind != "muon" && kind != "sgd")
    return absl::InvalidArgumentError(
        absl::StrCat("trainer.optimizer: unknown optimizer '", kind, "'; known: adamw, muon, sgd"));
  if (!Moment::IsFormat(options.state))
    return absl::InvalidArgumentError(absl::StrCat("trainer.optimizer_state: unknown format '",
                                                   options.state, "'; known: fp32, bf16, int8"));
  if (options.state != "fp32" && kind != "adamw")
    return absl::InvalidArgumentError(absl::StrCat("trainer.optimizer_state: ", options.state,
                                                   " is for adamw only, not for ", kind));
  return absl::OkStatus();
}

absl::Status Optimizer::Check(const AdamParams& p) {
  const auto check = [](bool ok, const char* field, const char* range, double value) {
    return ok ? absl::OkStatus()
              : absl::InvalidArgumentError(
                    absl::StrCat("optim_step: ", field, ": must be ", range, ", got ", value));
  };
  const auto at_least_0 = [](double x) { return std::isfinite(x) && x >= 0.0; };
  const auto decay = [](double x) { return x >= 0.0 && x < 1.0; };
  constexpr char kAtLeast0[] = "finite and at least 0", kDecay[] = "in [0, 1)";
  RFT_RETURN_IF_ERROR(
      check(at_least_0(p.learning_rate), "learning_rate", kAtLeast0, p.learning_rate));
  RFT_RETURN_IF_ERROR(check(decay(p.beta1), "beta1", kDecay, p.beta1));
  RFT_RETURN_IF_ERROR(check(decay(p.beta2), "beta2", kDecay, p.beta2));
  RFT_RETURN_IF_ERROR(
      check(std::isfinite(p.eps) && p.eps > 0.0, "eps", "finite and above 0", p.eps));
  RFT_RETURN_IF_ERROR(check(at_least_0(p.weight_decay), "weight_decay", kAtLeast0, p.weight_decay));
  return check(at_least_0(p.grad_clip_norm), "grad_clip_norm", kAtLeast0, p.grad_clip_norm);
}

Optimizer::Optimizer(const ParameterStore& parameters, OptimizerOptions options)
    : options_(std::move(options)) {
  const absl::Status valid = Check(options_);
  TORCH_CHECK(valid.ok(), valid.message());
  size_ = parameters.values().numel();
  device_ = parameters.values().device();
  if (parameters.is_offloaded()) fetched_ = LargeTensor(size_, at::kFloat);
  Reset();
}

void Optimizer::Reset() {
  num_steps_ = 0;
  m_ = Moment(size_, options_.state, /*is_signed=*/true, device_);
  if (options_.kind != "sgd") v_ = Moment(size_, options_.state, /*is_signed=*/false, device_);
}

double Optimizer::Norm(const at::Tensor& grads) {
  if (!grads.is_cpu())
    return at::linalg_vector_norm(grads, 2, std::nullopt, false, at::kDouble).item<double>();
  const int64_t n = grads.numel(), chunks = (n + kChunk - 1) / kChunk;
  std::vector<double> partial(chunks);
  ParallelFor(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      partial[c] = GetKernels().sum_of_squares(Data<float>(grads) + c * kChunk,
                                               std::min(kChunk, n - c * kChunk));
  });
  double total = 0.0;
  for (double p : partial) total += p;
  return std::sqrt(total);
}

struct Optimizer::Constants {
  AdamParams params;
  float scale, lr, beta1, beta2, eps, bias1, bias2_sqrt;
  uint64_t step;

  Constants(const AdamParams& p, double gradient_scale, int64_t num_steps)
      : params(p),
        scale(static_cast<float>(gradient_scale)),
        lr(static_cast<float>(p.learning_rate)),
        beta1(static_cast<float>(p.beta1)),
        beta2(static_cast<float>(p.beta2)),
        eps(static_cast<float>(p.eps)),
        bias1(static_cast<float>(1.0 - std::pow(p.beta1, static_cast<double>(num_steps)))),
        bias2_sqrt(
            static_cast<float>(std::sqrt(1.0 - std::pow(p.beta2, static_cast<double>(num_steps))))),
        step(static_cast<uint64_t>(num_steps)) {}
};

double Optimizer::DecayOf(const Parameter& p, const AdamParams& params) const {
  return p.value.dim() > 1 || options_.decay_vectors ? params.weight_decay : 0.0;
}

ValueUpdate Optimizer::BeginStep(ParameterStore& parameters, double scale,
                                 const AdamParams& params) {
  TORCH_CHECK(parameters.values().numel() == parameters.grads().numel(),
              "optimizer: arenas of different sizes");
  const bool muon = options_.kind == "muon", sgd = options_.kind == "sgd";
  if (muon) TryMemoryForMatrices(parameters);
  const at::Tensor grads = GradientsBesideValues(parameters);
  const ValueUpdate nothing_left = [](const Parameter&, int64_t, int64_t) {};
  const Constants c(params, scale, ++num_steps_);
  if (!m_.is_float()) {
    StepLowBit(parameters, grads, c);
    return nothing_left;
  }
  for (Parameter& p : parameters.all()) {
    if (!muon || !IsHiddenMatrix(p)) continue;
    const auto of = [&](const at::Tensor& arena) {
      return arena.narrow(0, parameters.OffsetOf(p), p.value.numel()).view(p.value.sizes());
    };
    StepMatrix(p, of(grads), of(m_.values()), scale, params);
  }
  if (!device_.is_cpu()) {
    StepElsewhere(parameters, c);
    return nothing_left;
  }
  const ValueUpdate step = [this, &parameters, grads, c, muon, sgd](const Parameter& p,
                                                                    int64_t begin, int64_t count) {
    if (muon && IsHiddenMatrix(p)) return;
    const int64_t at = parameters.OffsetOf(p) + begin;
    const auto decay = static_cast<float>(DecayOf(p, c.params));
    float *w = Data<float>(parameters.values()) + at, *m = Data<float>(m_.values()) + at,
          *g = Data<float>(grads) + at;
    if (sgd)
      GetKernels().sgd(w, m, g, count, c.scale, c.lr, c.beta1, decay);
    else
      GetKernels().adamw(w, m, Data<float>(v_.values()) + at, g, count, c.scale, c.lr, c.beta1,
                         c.beta2, c.eps, decay, c.bias1, c.bias2_sqrt);
  };
  if (!parameters.is_offloaded()) return step;
  parameters.Update(step);
  return nothing_left;
}

at::Tensor Optimizer::GradientsBesideValues(ParameterStore& parameters) {
  if (!parameters.is_offloaded()) return parameters.grads();
  fetched_.copy_(parameters.grads());
  parameters.ZeroGradients();
  return fetched_;
}

void Optimizer::StepMatrix(Parameter& p, at::Tensor gradient, at::Tensor momentum, double scale,
                           const AdamParams& params) const {
  const at::Tensor g = gradient * scale;
  momentum.mul_(params.beta1).add_(g, 1.0 - params.beta1);
  const at::Tensor direction = Orthogonalize(g * (1.0 - params.beta1) + momentum * params.beta1);
  const double size =
      0.2 * std::sqrt(static_cast<double>(std::max(p.value.size(0), p.value.size(1))));
  p.value.mul_(1.0 - params.learning_rate * DecayOf(p, params));
  p.value.add_(direction, -params.learning_rate * size);
  gradient.zero_();
}

// What the kernels do of a range, in place: there is nothing to allocate, so nothing to fail half-way. The gradient's memory serves
// for the root of the mean square.
void Optimizer::StepElsewhere(ParameterStore& parameters, const Constants& c) {
  std::vector<Range> ranges;
  for (const Parameter& p : parameters.all())
    if (options_.kind != "muon" || !IsHiddenMatrix(p))
      Append(ranges, parameters.OffsetOf(p), RoundUp(p.value.numel(), 16), DecayOf(p, c.params));
  for (const Range& range : ranges) {
    const auto of = [&](const at::Tensor& arena) {
      return arena.narrow(0, range.begin, range.count);
    };
    at::Tensor w = of(parameters.values()), m = of(m_.values()), g = of(parameters.grads());
    g.mul_(c.scale);
    if (options_.kind == "sgd") {
      m.mul_(c.beta1).add_(g.add_(w, range.weight_decay));
      w.sub_(m, c.lr);
    } else {
      at::Tensor v = of(v_.values());
      m.mul_(c.beta1).add_(g, 1.0f - c.beta1);
      v.mul_(c.beta2).addcmul_(g, g, 1.0f - c.beta2);
      g.copy_(v).sqrt_().div_(c.bias2_sqrt).add_(c.eps);
      w.mul_(1.0 - c.lr * range.weight_decay).addcdiv_(m, g, -c.lr / c.bias1);
    }
    g.zero_();
  }
}

// AdamW, a chunk at a time: its moments are decoded, stepped range by range and encoded again.
void Optimizer::StepLowBit(ParameterStore& parameters, const at::Tensor& grads,
                           const Constants& c) {
  const at::Tensor& values = parameters.values();
  std::vector<Range> ranges;
  for (const Parameter& p : parameters.all())  // with the padding, which is 0
    Append(ranges, parameters.OffsetOf(p), RoundUp(p.value.numel(), 16), DecayOf(p, c.params));
  ParallelFor((values.numel() + kChunk - 1) / kChunk, 1, [&](int64_t first, int64_t last) {
    std::vector<float> m(kChunk), v(kChunk);
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t begin = chunk * kChunk, end = std::min(values.numel(), begin + kChunk);
      m_.Read(begin, end - begin, m.data());
      v_.Read(begin, end - begin, v.data());
      auto range = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                    [](int64_t at, const Range& r) { return at < r.begin; });
      if (range != ranges.begin()) --range;
      for (; range != ranges.end() && range->begin < end; ++range) {
        const int64_t from = std::max(begin, range->begin),
                      to = std::min(end, range->begin + range->count);
        if (from >= to) continue;
        GetKernels().adamw(Data<float>(values) + from, m.data() + from - begin,
                           v.data() + from - begin, Data<float>(grads) + from, to - from, c.scale,
                           c.lr, c.beta1, c.beta2, c.eps, static_cast<float>(range->weight_decay),
                           c.bias1, c.bias2_sqrt);
      }
      m_.Write(begin, end - begin, m.data(), 2 * c.step);
      v_.Write(begin, end - begin, v.data(), 2 * c.step + 1);
    }
  });
}

}  // namespace rft
