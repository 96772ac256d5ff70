// Model folders: what is written can be read, and what is wrong with a folder is said by name.
#include <cmath>
#include <functional>

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/core/file_system.h"
#include "rft/io/safetensors_writer.h"
#include "rft/tensor/dispatch.h"
#include "tests/models/tiny_model.h"
#include "tests/tensor/thread_count.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::AllOf;
using testing::Family;
using ::testing::HasSubstr;
using testing::MakeTinyModel;

class ModelFolderTest : public ::testing::TestWithParam<Family> {
 protected:
  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = MakeTinyModel(GetParam(), at::kFloat);
  testing::TempDir dir_;
};

TEST_P(ModelFolderTest, LoadsWhatItSavedBitForBit) {
  ASSERT_TRUE(SaveModel(*model_, dir_.path(), SaveDtype::kFloat32).ok());
  const auto loaded = LoadModel(dir_.path(), at::kFloat);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(at::equal((*loaded)->parameters().values(), model_->parameters().values()));
  EXPECT_EQ((*loaded)->source_dir(), dir_.path());
  const std::vector<TokenId> ids = testing::RandomIds(20, 1);
  EXPECT_TRUE(at::equal(testing::HiddenStates(**loaded, *(*loaded)->weights(), ids),
                        testing::HiddenStates(*model_, *model_->weights(), ids)));
}

TEST_P(ModelFolderTest, RoundsToNearestWhenItSavesBf16) {
  ASSERT_TRUE(SaveModel(*model_, dir_.path(), SaveDtype::kBFloat16).ok());
  const auto loaded = LoadModel(dir_.path(), at::kFloat);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(at::equal((*loaded)->parameters().values(),
                        model_->parameters().values().to(at::kBFloat16).to(at::kFloat)));
}

TEST_P(ModelFolderTest, CopiesTheTokenizerOfWhereItCameFrom) {
  ASSERT_TRUE(SaveModel(*model_, dir_ / "from", SaveDtype::kBFloat16).ok());
  ASSERT_TRUE(WriteFile(FileSystem::Default(), dir_ / "from/tokenizer.json", "{}").ok());
  const auto loaded = LoadModel(dir_ / "from", at::kFloat);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_TRUE(SaveModel(**loaded, dir_ / "to", SaveDtype::kBFloat16).ok());
  EXPECT_EQ(*FileSystem::Default().ReadFile(dir_ / "to/tokenizer.json"), "{}");
}

INSTANTIATE_TEST_SUITE_P(Families, ModelFolderTest,
                         ::testing::Values(Family::kLlama, Family::kQwen3), [](const auto& info) {
                           return info.param == Family::kLlama ? "Llama" : "Qwen3";
                         });

class DamagedFolderTest : public ::testing::Test {
 protected:
  // Writes the model with `change` applied to each tensor; false leaves the tensor out.
  void Write(const std::function<bool(TensorToWrite&, std::vector<float>&)>& change) {
    ASSERT_TRUE(SaveModel(*model_, dir_.path(), SaveDtype::kFloat32).ok());
    std::vector<TensorToWrite> tensors;
    for (const Parameter& p : model_->parameters().all()) {
      std::vector<float> values(Data<float>(p.value), Data<float>(p.value) + p.value.numel());
      TensorToWrite t{p.name, TensorDtype::kF32, p.value.sizes().vec(), nullptr};
      if (!change(t, values)) continue;
      t.write = [values](const ByteSink& sink) {
        return sink(
            {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float)});
      };
      tensors.push_back(std::move(t));
    }
    ASSERT_TRUE(WriteSafetensors(dir_ / "model.safetensors", tensors).ok());
  }
  absl::Status Load() { return LoadModel(dir_.path(), at::kFloat).status(); }
  std::string Message() { return std::string(Load().message()); }

  const testing::ThreadCount one_thread_{1};
  std::shared_ptr<CausalLm> model_ = MakeTinyModel(Family::kLlama, at::kFloat);
  testing::TempDir dir_;
};

TEST_F(DamagedFolderTest, NamesAMissingTensor) {
  Write([](TensorToWrite& t, auto&) { return t.name != "model.layers.1.mlp.up_proj.weight"; });
  EXPECT_THAT(Message(), AllOf(HasSubstr(dir_.path()),
                               HasSubstr("missing tensor model.layers.1.mlp.up_proj.weight")));
}

TEST_F(DamagedFolderTest, NamesAMisshapenTensorAndBothShapes) {
  Write([](TensorToWrite& t, auto&) {
    if (t.name == "model.embed_tokens.weight") std::swap(t.shape[0], t.shape[1]);
    return true;
  });
  EXPECT_EQ(Load().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(), HasSubstr("model.embed_tokens.weight: the file has shape [32, 258], "
                                   "config.json asks for [258, 32]"));
}

TEST_F(DamagedFolderTest, RefusesNaNAndInfinity) {
  for (float bad : {NAN, INFINITY}) {
    Write([&](TensorToWrite& t, std::vector<float>& values) {
      if (t.name == "model.norm.weight") values[31] = bad;
      return true;
    });
    EXPECT_EQ(Load().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(),
                HasSubstr("model.norm.weight: contains NaN or Inf; the checkpoint is damaged"));
  }
}

TEST_F(DamagedFolderTest, NamesADtypeThatIsNotAWeights) {
  Write([](TensorToWrite& t, auto&) {
    if (t.name == "model.norm.weight") t.dtype = TensorDtype::kI32;
    return true;
  });
  EXPECT_THAT(
      Message(),
      HasSubstr("model.norm.weight: dtype I32 is not supported; expected BF16, F16 or F32"));
}

TEST_F(DamagedFolderTest, RefusesPickleFiles) {
  ASSERT_TRUE(SaveModel(*model_, dir_.path(), SaveDtype::kFloat32).ok());
  ASSERT_TRUE(
      FileSystem::Default().Rename(dir_ / "model.safetensors", dir_ / "pytorch_model.bin").ok());
  EXPECT_FALSE(Load().ok());
  EXPECT_THAT(Message(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("safetensors")));
}

TEST_F(DamagedFolderTest, SaysWhatIsMissing) {
  EXPECT_EQ(LoadModel(dir_ / "absent", at::kFloat).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Load().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(), HasSubstr("no config.json"));
}

TEST_F(DamagedFolderTest, ListsTheKnownArchitectures) {
  std::string config = testing::TinyConfig(Family::kLlama);
  config.replace(config.find("LlamaForCausalLM"), 16, "GptJForCausalLM");
  const auto model = CreateRandomModel(config, at::kFloat, 1);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(model.status().message()),
              AllOf(HasSubstr("GptJForCausalLM"), HasSubstr("LlamaForCausalLM"),
                    HasSubstr("Qwen3ForCausalLM")));
}

TEST_F(DamagedFolderTest, RefusesAComputeDtypeItHasNoKernelsFor) {
  EXPECT_EQ(CreateRandomModel(testing::TinyConfig(Family::kLlama), at::kHalf, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rft
