// The operations on another device against our kernels on the CPU: results, and gradients of inputs and parameters.
#include "rft/tensor/composite.h"

#include <cmath>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "rft/tensor/dispatch.h"
#include "tests/tensor/far_device.h"
#include "tests/tensor/gradient_check.h"
#include "tests/tensor/thread_count.h"

namespace rft {
namespace {

using testing::FarDevice;
using testing::OtherDevice;
using testing::RandomParameter;
using testing::RandomTensor;
using Tensors = std::vector<at::Tensor>;

TEST(FarDeviceTest, KeepsNumbersWhereTheHostCanNotReachThem) {
  const at::Tensor x = RandomTensor({3, 4}, 1);
  EXPECT_TRUE(at::equal(x.to(FarDevice()).t().contiguous().cpu(), x.t()));
  EXPECT_DEATH(Data<float>(x.to(FarDevice()))[0] = 1.0f, "");
}

TEST(FarDeviceTest, RefusesToMixWithTheCpu) {
  const at::Tensor x = RandomTensor({3, 4}, 1);
  EXPECT_THROW(x.to(FarDevice()).mm(x.t()), c10::Error);
}

// What an operation is run with. Its parameters and what it makes of them live until the backward is over.
struct Setting {
  at::ScalarType dtype;
  at::Device device;
  Tensors x;  // leaves, float32
  std::deque<Parameter> parameters;
  std::deque<Weight> weights;
  std::vector<std::shared_ptr<void>> kept;

  Parameter* New(std::vector<int64_t> shape) {
    const auto seed = static_cast<uint64_t>(parameters.size() + 50);
    Parameter p = RandomParameter("p", std::move(shape), seed);
    parameters.push_back({p.name, p.value.to(device), p.grad.to(device)});
    return &parameters.back();
  }
  const Weight& NewWeight(const std::vector<int64_t>& rows, int64_t k) {
    std::vector<Parameter*> parts;
    for (const int64_t n : rows) parts.push_back(New({n, k}));
    weights.push_back(Weight::Create(parts, dtype));
    return weights.back();
  }
  template <typename T>
  T* Keep(T value) {
    kept.push_back(std::make_shared<T>(std::move(value)));
    return static_cast<T*>(kept.back().get());
  }
  at::Tensor Ids(std::vector<int64_t> ids) const { return at::tensor(ids, at::kLong).to(device); }
  at::Tensor Activation(size_t i) const { return x[i].to(dtype); }
};

struct Operation {
  const char* name;
  std::vector<std::vector<int64_t>> inputs;
  std::function<at::Tensor(Setting&)> run;
};

// The result, the gradients of the inputs, those of the parameters; float32 on the CPU.
Tensors ResultsOf(const Operation& op, at::ScalarType dtype, at::Device device) {
  Setting s{.dtype = dtype, .device = device, .x = {}, .parameters = {}, .weights = {}, .kept = {}};
  for (const auto& shape : op.inputs)
    s.x.push_back(RandomTensor(shape, s.x.size() + 1).to(device).requires_grad_(true));
  const at::Tensor y = op.run(s);
  EXPECT_EQ(y.device(), device);
  y.backward(RandomTensor(y.sizes().vec(), 99).to(device).to(y.scalar_type()));
  Tensors results = {y};
  for (const at::Tensor& x : s.x) results.push_back(x.grad());
  for (const Parameter& p : s.parameters) results.push_back(p.grad);
  for (at::Tensor& t : results) t = t.detach().to(at::kCPU, at::kFloat);
  return results;
}

// Relative to the largest number; what is 0 everywhere has to be exactly that.
double Error(const at::Tensor& x, const at::Tensor& expected) {
  const double largest = expected.abs().max().item<double>(),
               difference = (x - expected).abs().max().item<double>();
  return largest > 0.0 ? difference / largest : difference == 0.0 ? 0.0 : INFINITY;
}

const HeadLayout kHeads{4, 2, 6};  // width 48

at::Tensor Rotated(Setting& s, std::vector<int64_t> norm_widths, int64_t rotated) {
  ops::HeadNorm norm;
  norm.eps = 0.1;
  if (!norm_widths.empty()) {
    norm.q_parameter = s.New({norm_widths[0]});
    norm.k_parameter = s.New({norm_widths[1]});
    norm.q_weight_D = norm.q_parameter->value;
    norm.k_weight_D = norm.k_parameter->value;
  }
  const at::Tensor angles = RandomTensor({9, rotated / 2}, 7, 3.0).to(s.device);
  return ops::RotateHeads(s.Activation(0), kHeads, norm, s.Ids({0, 8, 2, 2}), angles.cos(),
                          angles.sin());
}

// top_k: keys that a token may see; 0: all.
at::Tensor Attended(Setting& s, int64_t window, int64_t top_k = 0) {
  HeadLayout layout = kHeads;
  layout.window = window;
  PackedAttention attention({{.begin = 0, .count = 7},  // the prompt of the next two, and more
                             {.begin = 7, .count = 3, .prefix_count = 5},
                             {.begin = 10, .count = 4, .prefix_count = 5},
                             {.begin = 14, .count = 6, .group = 1}});
  const auto random = [&](int64_t width, uint64_t seed, at::ScalarType dtype) {
    return RandomTensor({20, width}, seed).to(dtype).to(s.device);
  };
  if (top_k > 0)
    attention.Select(0,
                     {8, 6, top_k, [&] { return random(6, 21, s.dtype); },
                      [&] {
                        return Indexer::Queries{random(48, 22, s.dtype), random(8, 23, at::kFloat)};
                      }});
  return attention.Attend(0, s.Activation(0), layout, 0.4);
}

// On the first and the last of three stacked parameters of 4, 5 and 6 outputs.
LowRank* Adapter(Setting& s, int64_t k) {
  LowRank w;
  w.rank = 3;
  w.k = k;
  w.scale = 0.7f;
  w.dtype = s.dtype;
  w.parts = {{.column = 0, .n = 0, .a = s.New({3, k}), .b = s.New({4, 3}), .b_packed = {}},
             {.column = 9, .n = 0, .a = s.New({3, k}), .b = s.New({6, 3}), .b_packed = {}}};
  w.Repack();
  return s.Keep(std::move(w));
}

at::Tensor WithEntropy(const at::Tensor& logprobs, const at::Tensor& entropy) {
  return at::stack({logprobs, entropy}, 1);
}

const std::vector<Operation>& Operations() {
  static const auto* operations = new std::vector<Operation>{
      {"Embedding",
       {},
       [](Setting& s) {
         Parameter* p = s.New({9, 6});
         return ops::Embedding(s.Ids({8, 1, 1, 0}), p->value.to(s.dtype), p);
       }},
      {"SelectRows",
       {{5, 6}},
       [](Setting& s) {
         return ops::SelectRows(s.Activation(0), s.Ids({4, 0, 4}));
       }},
      {"Linear",
       {{5, 10}},
       [](Setting& s) {
         return ops::Linear(s.Activation(0), s.NewWeight({20, 3, 4}, 10));
       }},
      {"LinearAdd",
       {{5, 10}, {5, 7}},
       [](Setting& s) {
         return ops::LinearAdd(s.Activation(0), s.NewWeight({7}, 10), s.x[1] * 1.0);
       }},
      {"RmsNorm",
       {{5, 20}},
       [](Setting& s) {
         Parameter* p = s.New({20});
         return ops::RmsNorm(s.x[0], p->value, p, 0.1, s.dtype);
       }},
      {"NormLinear",
       {{5, 20}},
       [](Setting& s) {
         Parameter* p = s.New({20});
         return ops::NormLinear(s.x[0], p->value, p, 0.1, s.NewWeight({7, 2}, 20));
       }},
      {"RotateHeads", {{4, 48}}, [](Setting& s) { return Rotated(s, {}, 6); }},
      {"RotateAPartOfHeads", {{4, 48}}, [](Setting& s) { return Rotated(s, {}, 4); }},
      {"RotateNormedHeads",
       {{4, 48}},
       [](Setting& s) {
         return Rotated(s, {6, 6}, 6);
       }},
      {"RotateHeadsNormedAsOne",
       {{4, 48}},
       [](Setting& s) {
         return Rotated(s, {24, 12}, 6);
       }},
      {"SwiGlu", {{5, 20}}, [](Setting& s) { return ops::SwiGlu(s.Activation(0)); }},
      {"SwiGluLinearAdd",
       {{5, 20}, {5, 7}},
       [](Setting& s) {
         return ops::SwiGluLinearAdd(s.Activation(0), s.NewWeight({7}, 10), s.x[1] * 1.0);
       }},
      {"TokenLogprobs",
       {{5, 8}},
       [](Setting& s) {
         at::Tensor entropy;
         const at::Tensor y = ops::TokenLogprobs(s.Activation(0), s.NewWeight({40}, 8),
                                                 s.Ids({0, 39, 3, 3, 1}), 0.7, &entropy);
         return WithEntropy(y, entropy);
       }},
      {"LogprobsOfSeveralTokens",
       {{3, 8}},
       [](Setting& s) {
         return ops::TokenLogprobs(s.Activation(0), s.NewWeight({40}, 8),
                                   s.Ids({0, 39, 3, 3, 1, 2}).view({3, 2}), 1.0);
       }},
      {"Attend", {{20, 48}}, [](Setting& s) { return Attended(s, 0); }},
      {"AttendToAWindow", {{20, 48}}, [](Setting& s) { return Attended(s, 4); }},
      {"AttendToSelectedKeys", {{20, 48}}, [](Setting& s) { return Attended(s, 0, 3); }},
      {"ExpertsAdd",
       {{5, 10}, {5, 2}, {5, 10}},
       [](Setting& s) {
         ExpertWeights w;
         std::vector<std::vector<Parameter*>> gate_up;
         std::vector<Parameter*> down;
         for (int e = 0; e < 4; ++e) {
           gate_up.push_back({s.New({6, 10}), s.New({6, 10})});
           down.push_back(s.New({10, 6}));
           if (s.device.is_cpu()) continue;
           w.gate_up.push_back(Weight::Create(gate_up.back(), s.dtype));
           w.down.push_back(Weight::Create({down.back()}, s.dtype));
         }
         if (s.device.is_cpu()) w.Pack(gate_up, down, s.dtype);
         const auto* weights = s.Keep(std::move(w));
         const at::Tensor experts =  // nobody's: 1
             at::tensor(std::vector<int>{0, 3, 2, 3, 0, 2, 2, 3, 0, 3}, at::kInt).view({5, 2});
         const auto add = s.device.is_cpu() ? ops::ExpertsAdd : ops::composite::ExpertsAdd;
         return add(s.Activation(0), experts, s.x[1], *weights, s.x[2] * 1.0, {});
       }},
      {"AddLowRank",
       {{5, 15}, {5, 10}},
       [](Setting& s) {
         return ops::AddLowRank(s.x[0].to(s.dtype) * 1.0, s.Activation(1), *Adapter(s, 10), 0, 5);
       }},
      {"AddLowRankToTheResidualWithDropout",
       {{5, 15}, {5, 10}},
       [](Setting& s) {
         const auto* dropout = s.Keep(LowRankDropout{
             .p = 0.4, .seed = 3, .keys_T = at::tensor(std::vector<int64_t>{9, 8, 7, 1, 0})});
         return ops::AddLowRank(s.x[0] * 1.0, s.Activation(1), *Adapter(s, 10), 0, 5, dropout);
       }},
      {"AddLowRankEmbedding",
       {{4, 6}},
       [](Setting& s) {
         auto* adapter = s.Keep(EmbeddingLowRank(s.New({3, 9}), s.New({6, 3}), 0.7f));
         return ops::AddLowRankEmbedding(s.x[0] * 1.0, s.Ids({8, 1, 1, 0}), *adapter, 0, 4);
       }},
      {"LogprobsOfAnAdaptedHead",
       {{5, 8}},
       [](Setting& s) {
         const auto* dropout = s.Keep(LowRankDropout{
             .p = 0.4, .seed = 3, .keys_T = at::tensor(std::vector<int64_t>{9, 8, 7, 1, 0})});
         return ops::TokenLogprobs(s.Activation(0), s.NewWeight({15}, 8), s.Ids({0, 14, 3, 3, 1}),
                                   1.0, nullptr, {Adapter(s, 8), dropout});
       }},
  };
  return *operations;
}

class CompositeTest : public ::testing::TestWithParam<Operation> {
 private:
  const testing::ThreadCount one_thread_{1};
};

TEST_P(CompositeTest, GivesTheKernelsNumbersInFloat32) {
  const Tensors expected = ResultsOf(GetParam(), at::kFloat, at::kCPU),
                actual = ResultsOf(GetParam(), at::kFloat, OtherDevice());
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_LT(Error(actual[i], expected[i]), 1e-5) << i;
  }
}

// bf16 may round in other places, but no worse than twice what the kernels' roundings do.
TEST_P(CompositeTest, IsAsCloseInBfloat16AsTheKernelsAre) {
  const Tensors exact = ResultsOf(GetParam(), at::kFloat, at::kCPU),
                native = ResultsOf(GetParam(), at::kBFloat16, at::kCPU),
                actual = ResultsOf(GetParam(), at::kBFloat16, OtherDevice());
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_LT(Error(actual[i], exact[i]), 2.0 * Error(native[i], exact[i]) + 0.004) << i;
}

INSTANTIATE_TEST_SUITE_P(Operations, CompositeTest, ::testing::ValuesIn(Operations()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(CompositeLogprobsTest, AreThoseOfOneChunkInSeveral) {
  constexpr int64_t kVocab = 1'100'000, kRows = 9;
  ASSERT_EQ(ops::LogitsChunkRows(kVocab), 8);
  const Operation op{"", {{kRows, 2}}, [](Setting& s) {
                       return ops::TokenLogprobs(s.Activation(0), s.NewWeight({kVocab}, 2),
                                                 s.Ids(std::vector<int64_t>(kRows, 5)), 1.0);
                     }};
  const Tensors expected = ResultsOf(op, at::kFloat, at::kCPU),
                actual = ResultsOf(op, at::kFloat, OtherDevice());
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_LT(Error(actual[i], expected[i]), 1e-4) << i;  // sums of a million terms
}

TEST(CompositeTopLogprobsTest, FindsTheSameTokens) {
  const at::NoGradGuard no_grad;
  const auto top = [](at::Device device) {
    Setting s{.dtype = at::kFloat,
              .device = device,
              .x = {},
              .parameters = {},
              .weights = {},
              .kept = {}};
    return ops::TopLogprobs(RandomTensor({5, 8}, 1).to(device), s.NewWeight({40}, 8), 3, 0.7);
  };
  const ops::TopTokens expected = top(at::kCPU), actual = top(OtherDevice());
  EXPECT_TRUE(at::equal(actual.ids_NK.cpu(), expected.ids_NK));
  EXPECT_LT(Error(actual.logprobs_NK.cpu(), expected.logprobs_NK), 1e-5);
  EXPECT_LT(Error(actual.entropy_N.cpu(), expected.entropy_N), 1e-5);
}

TEST(CompositeWeightTest, LeavesFrozenPartsWithoutAGradientAndRefusesInt8) {
  Setting s{.dtype = at::kFloat,
            .device = OtherDevice(),
            .x = {},
            .parameters = {},
            .weights = {},
            .kept = {}};
  Parameter *frozen = s.New({4, 6}), *trained = s.New({3, 6});
  frozen->grad = at::Tensor();
  const Weight w = Weight::Create({frozen, trained}, at::kFloat);
  ops::Linear(RandomTensor({5, 6}, 1).to(OtherDevice()).requires_grad_(true), w)
      .backward(RandomTensor({5, 7}, 2).to(OtherDevice()));
  EXPECT_FALSE(frozen->grad.defined());
  EXPECT_GT(trained->grad.abs().max().item<double>(), 0.0);
  EXPECT_THROW(Weight::Create({frozen}, at::kChar), c10::Error);
}

}  // namespace
}  // namespace rft
