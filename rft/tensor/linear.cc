// Embedding, SelectRows, Linear, LinearAdd and AsFloat of ops.h.
#include <algorithm>
#include <cstring>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/copy.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/linear_backward.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void CheckInput(const at::Tensor& x, const Weight& w) {
  TORCH_CHECK(
      x.dim() == 2 && x.size(1) == w.k && x.is_contiguous() && x.scalar_type() == w.compute_dtype(),
      "linear: expected a contiguous [T, ", w.k, "] of ", w.compute_dtype(), ", got ", x.sizes(),
      " of ", x.scalar_type());
}

at::Tensor LinearForward(const at::Tensor& x, const Weight& w) {
  at::Tensor y = at::empty({x.size(0), w.n}, x.options());
  DispatchFloat(x.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    Multiply(Data<T>(x), x.size(0), w, Data<T>(y));
  });
  return y;
}

// y = residual + x W^T; y may be the residual.
void LinearAddInto(const at::Tensor& x, const Weight& w, const at::Tensor& residual,
                   const at::Tensor& y) {
  DispatchFloat(x.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    MultiplyToFloat(Data<T>(x), x.size(0), w, Data<float>(y), true,
                    y.is_same(residual) ? nullptr : Data<float>(residual));
  });
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t weight) {
    ctx->save_for_backward({x});
    ctx->saved_data["weight"] = weight;
    return LinearForward(x, *reinterpret_cast<const Weight*>(weight));
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    const auto& w = *reinterpret_cast<const Weight*>(ctx->saved_data["weight"].toInt());
    const at::Tensor x = ctx->get_saved_variables()[0];
    return {LinearBackward(x, dy[0].contiguous(), w), at::Tensor()};
  }
};

struct LinearAddFunction : torch::autograd::Function<LinearAddFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& residual,
                            int64_t weight) {
    ctx->save_for_backward({x});
    ctx->saved_data["weight"] = weight;
    at::Tensor y = at::empty_like(residual);
    LinearAddInto(x, *reinterpret_cast<const Weight*>(weight), residual, y);
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    const auto& w = *reinterpret_cast<const Weight*>(ctx->saved_data["weight"].toInt());
    const at::Tensor x = ctx->get_saved_variables()[0];
    return {LinearBackward(x, Convert(dy[0].contiguous(), x.scalar_type()), w), dy[0],
            at::Tensor()};
  }
};

at::Tensor Gather(const at::Tensor& ids, const at::Tensor& table) {
  if (!table.is_cpu()) return table.index_select(0, ids).to(at::kFloat);
  const CostTimer timer(Cost::kRowwise);
  const int64_t t = ids.size(0), h = table.size(1);
  at::Tensor y = at::empty({t, h}, table.options().dtype(at::kFloat));
  const int64_t* id = Data<int64_t>(ids);
  DispatchFloat(table.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto to_float = GetKernels().typed<T>().to_float;
    const T* from = Data<T>(table);
    float* to = Data<float>(y);
    ParallelFor(t, GrainFor(h), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to_float(from + id[i] * h, h, to + i * h);
    });
  });
  return y;
}

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& anchor, const at::Tensor& ids,
                            const at::Tensor& table, int64_t parameter) {
    (void)anchor;  // a scalar that requires a gradient, so that the graph starts here
    ctx->save_for_backward({ids});
    ctx->saved_data["parameter"] = parameter;
    return Gather(ids, table);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    auto* parameter = reinterpret_cast<Parameter*>(ctx->saved_data["parameter"].toInt());
    if (parameter->grad.defined()) {
      const at::Tensor ids = ctx->get_saved_variables()[0], g = dy[0].contiguous();
      if (!g.is_cpu()) {
        parameter->grad.index_add_(0, ids, g);
        return {at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
      }
      const int64_t h = g.size(1), t = g.size(0);
      const int64_t* id = Data<int64_t>(ids);
      float* grad = Data<float>(parameter->grad);
      const float* from = Data<float>(g);
      // Threads own columns, so tokens are added in order whatever the thread count.
      ParallelFor(h, std::max<int64_t>(16, GrainFor(t)), [&](int64_t begin, int64_t end) {
        for (int64_t i = 0; i < t; ++i)
          for (int64_t c = begin; c < end; ++c) grad[id[i] * h + c] += from[i * h + c];
      });
    }
    return {at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// y[i] = x[sources[i]]
at::Tensor Select(const at::Tensor& x, const at::Tensor& sources) {
  if (!x.is_cpu()) return x.index_select(0, sources);
  const int64_t n = sources.size(0), row = x.size(1) * static_cast<int64_t>(x.element_size());
  at::Tensor y = at::empty({n, x.size(1)}, x.options());
  const int64_t* source = Data<int64_t>(sources);
  ParallelFor(n, GrainFor(x.size(1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(Data<char>(y) + i * row, Data<char>(x) + source[i] * row, row);
  });
  return y;
}

struct SelectFunction : torch::autograd::Function<SelectFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& sources) {
    ctx->save_for_backward({sources});
    ctx->saved_data["rows"] = x.size(0);
    return Select(x, sources);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    const at::Tensor sources = ctx->get_saved_variables()[0], g = dy[0].contiguous();
    const int64_t h = g.size(1), n = g.size(0), rows = ctx->saved_data["rows"].toInt();
    at::Tensor dx = at::zeros({rows, h}, g.options().dtype(at::kFloat));
    if (!g.is_cpu())
      return {dx.index_add_(0, sources, g.to(at::kFloat)).to(g.scalar_type()), at::Tensor()};
    const int64_t* source = Data<int64_t>(sources);
    DispatchFloat(g.scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = Data<T>(g);
      float* to = Data<float>(dx);
      ParallelFor(h, std::max<int64_t>(16, GrainFor(n)), [&](int64_t begin, int64_t end) {
        for (int64_t i = 0; i < n; ++i)
          for (int64_t c = begin; c < end; ++c) to[source[i] * h + c] += ToFloat(from[i * h + c]);
      });
    });
    return {Convert(dx, g.scalar_type()), at::Tensor()};
  }
};

struct AsFloatFunction : torch::autograd::Function<AsFloatFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x) {
    ctx->saved_data["dtype"] = x.scalar_type();
    return Convert(x, at::kFloat);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    return {Convert(dy[0].contiguous(), ctx->saved_data["dtype"].toScalarType())};
  }
};

}  // namespace

at::Tensor SelectRows(const at::Tensor& x_TH, const at::Tensor& sources_N) {
  TORCH_CHECK(x_TH.dim() == 2 && x_TH.is_contiguous() && sources_N.scalar_type() == at::kLong,
              "select_rows: expected a contiguous [T, H] and int64 sources");
  return Recording(x_TH) ? SelectFunction::apply(x_TH, sources_N) : Select(x_TH, sources_N);
}

at::Tensor Embedding(const at::Tensor& ids_T, const at::Tensor& table_VH, Parameter* parameter) {
  TORCH_CHECK(ids_T.scalar_type() == at::kLong && ids_T.is_contiguous(),
              "embedding: ids must be contiguous int64");
  if (!at::GradMode::is_enabled()) return Gather(ids_T, table_VH);
  at::Tensor anchor = at::zeros({}, table_VH.options().dtype(at::kFloat));
  anchor.requires_grad_(true);
  return EmbeddingFunction::apply(anchor, ids_T, table_VH, reinterpret_cast<int64_t>(parameter));
}

at::Tensor Linear(const at::Tensor& x_TK, const Weight& weight) {
  CheckInput(x_TK, weight);
  if (!x_TK.is_cpu()) return composite::Linear(x_TK, weight);
  if (!Recording(x_TK)) return LinearForward(x_TK, weight);
  return LinearFunction::apply(x_TK, reinterpret_cast<int64_t>(&weight));
}

at::Tensor AsFloat(const at::Tensor& x) {
  if (x.scalar_type() == at::kFloat || !x.is_cpu()) return x.to(at::kFloat);
  return Recording(x) ? AsFloatFunction::apply(x) : Convert(x, at::kFloat);
}

at::Tensor LinearAdd(const at::Tensor& x_TK, const Weight& weight, const at::Tensor& residual_TN) {
  CheckInput(x_TK, weight);
  TORCH_CHECK(residual_TN.scalar_type() == at::kFloat && residual_TN.is_contiguous() &&
                  residual_TN.size(1) == weight.n,
              "linear: the residual must be a contiguous float32 [T, ", weight.n, "]");
  if (!x_TK.is_cpu()) return composite::LinearAdd(x_TK, weight, residual_TN);
  if (!Recording(x_TK)) {
    LinearAddInto(x_TK, weight, residual_TN, residual_TN);
    return residual_TN;
  }
  return LinearAddFunction::apply(x_TK, residual_TN, reinterpret_cast<int64_t>(&weight));
}

}  // namespace rft::ops
