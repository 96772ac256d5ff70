// Builds one ISA's table. Each kernels_<isa>.cc defines RFT_ISA and includes this; the build gives each its own flags.
#pragma once

#include "rft/tensor/attention_impl.h"
#include "rft/tensor/gemm_impl.h"
#include "rft/tensor/gemm_int8_impl.h"
#include "rft/tensor/index_scores_impl.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/pack_impl.h"
#include "rft/tensor/rowwise_impl.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

template <typename T>
TypedKernels<T> MakeTyped() {
  TypedKernels<T> k;
  k.pack_panel_from_float = PackPanel<float, T>;
  k.pack_panel = PackPanel<T, T>;
  k.gemm_panel_float = GemmPanelFloat<T>;
  k.gemm_panel = GemmPanelSame<T>;
  k.rms_norm_residual = RmsNorm<float, T>;
  k.rms_norm_residual_backward = RmsNormResidualBackward<T>;
  k.rms_norm_head = RmsNorm<T, T>;
  k.rms_norm_head_backward = RmsNormHeadBackward<T>;
  k.rope = Rope<T>;
  k.swiglu = SwiGlu<T>;
  k.swiglu_backward = SwiGluBackward<T>;
  k.swiglu_weighted_backward = SwiGluWeightedBackward<T>;
  k.dot = Dot<T>;
  k.scale = Scale<T>;
  k.to_float = ToFloatRow<T>;
  k.from_float = FromFloatRow<T>;
  k.transpose = Transpose<T>;
  k.attend = Attend<T>;
  k.attend_backward = AttendBackward<T>;
  k.index_scores = IndexScores<T>;
  k.softmax_gradient = SoftmaxGradient<T>;
  return k;
}

inline Kernels MakeKernels(const char* name) {
  Kernels k;
  k.name = name;
  k.f32 = MakeTyped<float>();
  k.bf16 = MakeTyped<Bf16>();
  k.gemm_panel_int8_float = GemmPanelInt8<float>;
  k.gemm_panel_int8 = GemmPanelInt8<Bf16>;
  k.row_stats = RowStatistics;
  k.row_exp_stats = RowExpStats;
  k.row_exp = RowExp;
  k.add_scaled = AddScaled;
  k.sum_of_squares = SumOfSquares;
  k.adamw = AdamW;
  k.sgd = Sgd;
  return k;
}

}  // namespace
}  // namespace rft::RFT_ISA
