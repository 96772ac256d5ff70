#include "rft/io/safetensors.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "rft/io/safetensors_writer.h"
#include "tests/testing/temp_dir.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string LittleEndian64(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

std::string FileOf(const std::string& header, const std::string& data) {
  return LittleEndian64(header.size()) + header + data;
}

std::string BytesOf(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()};
}

TensorToWrite Tensor(const std::string& name, TensorDtype dtype, std::vector<int64_t> shape,
                     const std::string& bytes) {
  return {name, dtype, std::move(shape), [bytes](const ByteSink& sink) {
            const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
            const size_t half = bytes.size() / 2;  // in two parts
            const absl::Status first = sink({data, half});
            return first.ok() ? sink({data + half, bytes.size() - half}) : first;
          }};
}

class SafetensorsTest : public ::testing::Test {
 protected:
  void Put(const std::string& name, const std::string& bytes) {
    ASSERT_TRUE(WriteFile(fs_, dir_ / name, bytes).ok());
  }
  std::string OpenError(const std::string& bytes) {
    Put("x.safetensors", bytes);
    const auto file = OpenSafetensors(dir_ / "x.safetensors");
    EXPECT_TRUE(file.ok() || file.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(file.status().message());
  }
  std::string ModelError() { return std::string(OpenModelWeights(dir_.path()).status().message()); }

  FileSystem& fs_ = FileSystem::Default();
  rft::testing::TempDir dir_;
};

TEST_F(SafetensorsTest, ReadsAFileWrittenByHand) {
  Put("x.safetensors",
      FileOf(
          R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},)"
          R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F16","shape":[0,3],"data_offsets":[12,12]}})",
          "AAAABBBBBBBB"));
  const auto file = OpenSafetensors(dir_ / "x.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("format"), "pt");
  EXPECT_EQ(file->tensors.size(), 3u);
  EXPECT_EQ(BytesOf(file->tensors.at("a")), "AAAA");
  EXPECT_TRUE(file->tensors.at("a").shape.empty());
  EXPECT_EQ(BytesOf(file->tensors.at("b")), "BBBBBBBB");
  EXPECT_EQ(file->tensors.at("b").dtype, TensorDtype::kBF16);
  EXPECT_THAT(file->tensors.at("b").shape, ElementsAre(2, 2));
  EXPECT_THAT(file->tensors.at("e").shape, ElementsAre(0, 3));
}

TEST_F(SafetensorsTest, ViewsOutliveTheFileObject) {
  Put("x.safetensors", FileOf(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "abc"));
  const TensorView view = OpenSafetensors(dir_ / "x.safetensors")->tensors.at("a");
  EXPECT_EQ(BytesOf(view), "abc");
}

struct BadFile {
  std::string header, data, message;
};

class BadSafetensorsTest : public SafetensorsTest, public ::testing::WithParamInterface<BadFile> {};

TEST_P(BadSafetensorsTest, IsRefusedWithAReason) {
  const std::string error = OpenError(FileOf(GetParam().header, GetParam().data));
  EXPECT_THAT(error, HasSubstr("x.safetensors: "));
  EXPECT_THAT(error, HasSubstr(GetParam().message));
}

// One U8 tensor "a" with the given dtype, shape and offsets.
std::string One(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return absl::StrCat("{\"a\":{\"dtype\":\"", dtype, "\",\"shape\":", shape,
                      ",\"data_offsets\":", offsets, "}}");
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadSafetensorsTest,
    ::testing::Values(
        BadFile{"", "", "the header does not begin with '{'"},
        BadFile{"[]", "", "the header does not begin with '{'"},
        BadFile{" {}", "", "the header does not begin with '{'"},
        BadFile{"{", "", "header: line 1, column 2: the text ends before"},
        BadFile{"{\"\xFF\":1}", "", "header: line 1, column 3: not UTF-8 text"},
        BadFile{"{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}", "",
                "nested deeper than 8 levels"},
        BadFile{"{}", "x", "1 bytes at the end belong to no tensor"},
        BadFile{R"({"a":1})", "",
                "tensor \"a\": must be an object with dtype, shape and data_offsets"},
        BadFile{R"({"a":{"shape":[],"data_offsets":[0,1]}})", "x",
                "tensor \"a\": 'dtype' is missing"},
        BadFile{R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "x",
                "tensor \"a\": 'shape' is missing"},
        BadFile{R"({"a":{"dtype":"U8","shape":[1]}})", "x",
                "tensor \"a\": 'data_offsets' is missing"},
        BadFile{One("U9", "[1]", "[0,1]"), "x", "tensor \"a\": dtype \"U9\" is not known"},
        BadFile{One("U8", "[-1]", "[0,1]"), "x",
                "each entry of shape must be a whole number that is not negative"},
        BadFile{One("U8", "[1.0]", "[0,1]"), "x", "each entry of shape must be a whole number"},
        BadFile{One("U8", "[4294967296,4294967296]", "[0,1]"), "x", "shape is impossibly large"},
        BadFile{One("F64", "[2305843009213693952]", "[0,1]"), "x", "shape is impossibly large"},
        BadFile{One("U8", "[1]", "[0]"), "x", "data_offsets must be [begin, end]"},
        BadFile{One("U8", "[1]", "[0,-1]"), "x", "data_offsets must be a whole number"},
        BadFile{One("U8", "[1]", "[1,0]"), "x",
                "data_offsets [1, 0] are outside the file's 1 bytes of data"},
        BadFile{One("U8", "[2]", "[0,2]"), "x",
                "data_offsets [0, 2] are outside the file's 1 bytes of data"},
        BadFile{One("U8", "[1]", "[0,18446744073709551615]"), "x",
                "data_offsets must be a whole number"},
        BadFile{One("F32", "[2]", "[0,4]"), "xxxx",
                "data_offsets hold 4 bytes, but F32 [2] needs 8"},
        BadFile{One("U8", "[1]", "[1,2]"), "xx",
                "tensor \"a\": follows a hole in the data (it begins at byte 1, expected 0)"},
        BadFile{
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            "xxx", "tensor \"b\": overlaps another tensor"},
        BadFile{
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            "x", "overlaps another tensor"},
        BadFile{
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            "x", "the key \"a\" is given twice"},
        BadFile{R"({"__metadata__":[]})", "", "__metadata__ must be an object"},
        BadFile{R"({"__metadata__":{"format":1}})", "", "'format' must be text"}));

TEST_F(SafetensorsTest, RefusesEveryTruncationOfAGoodFile) {
  const std::string good = FileOf(
      R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}})",
      "abcDDDD");
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_NE(OpenError(good.substr(0, length)), "") << length;
  EXPECT_EQ(OpenError(good), "");
  EXPECT_NE(OpenError(good + "x"), "");
}

TEST_F(SafetensorsTest, RefusesImpossibleHeaderLengthsBeforeReadingThem) {
  EXPECT_THAT(OpenError(LittleEndian64(100'000'001) + "{}"),
              HasSubstr("header of 100000001 bytes; at most 100000000 are allowed"));
  EXPECT_THAT(OpenError(std::string(8, '\xFF')), HasSubstr("header of 18446744073709551615 bytes"));
  EXPECT_THAT(OpenError(LittleEndian64(3) + "{}"),
              HasSubstr("the header needs 3 bytes, the file has 2 (cut off?)"));
}

TEST_F(SafetensorsTest, RefusesPickles) {
  for (const char* name : {"pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"}) {
    Put(name, "");
    EXPECT_THAT(std::string(OpenSafetensors(dir_ / name).status().message()),
                HasSubstr("never read; convert to .safetensors"));
  }
  EXPECT_THAT(ModelError(), HasSubstr("no safetensors weights (model.ckpt, model.pt, model.pth, "
                                      "pytorch_model.bin can run code"));
}

TEST_F(SafetensorsTest, WritesWhatItReads) {
  const std::vector<TensorToWrite> tensors = {
      Tensor("w", TensorDtype::kBF16, {2, 3}, "aabbccddeeff"),
      Tensor("s", TensorDtype::kI64, {}, "12345678"), Tensor("e", TensorDtype::kF32, {0}, "")};
  ASSERT_TRUE(WriteSafetensors(dir_ / "x.safetensors", tensors).ok());
  const SafetensorsFile file = *OpenSafetensors(dir_ / "x.safetensors");
  EXPECT_EQ(BytesOf(file.tensors.at("w")), "aabbccddeeff");
  EXPECT_EQ(BytesOf(file.tensors.at("s")), "12345678");
  EXPECT_EQ(file.metadata.at("format"), "pt");
  const char* mapped = file.tensors.at("w").owner->data();
  EXPECT_EQ((reinterpret_cast<const char*>(file.tensors.at("w").bytes.data()) - mapped) % 8, 0);
}

TEST_F(SafetensorsTest, WriterNamesTheTensorThatIsWrong) {
  const auto error = [&](std::vector<TensorToWrite> tensors) {
    return std::string(WriteSafetensors(dir_ / "x.safetensors", tensors).message());
  };
  EXPECT_EQ(error({Tensor("a", TensorDtype::kU8, {3}, "ab")}),
            "tensor \"a\": 2 bytes were handed over instead of 3");
  EXPECT_EQ(error({Tensor("a", TensorDtype::kU8, {1}, "ab")}),
            "tensor \"a\": more than its 1 bytes were handed over");
  EXPECT_EQ(
      error({Tensor("a", TensorDtype::kU8, {1}, "a"), Tensor("a", TensorDtype::kU8, {1}, "a")}),
      "tensor \"a\": given twice");
  EXPECT_EQ(error({Tensor("a", TensorDtype::kU8, {-1}, "")}), "tensor \"a\": negative dimension");
  EXPECT_EQ(error({Tensor("__metadata__", TensorDtype::kU8, {0}, "")}),
            "tensor \"__metadata__\": not a usable name");
}

class ShardedTest : public SafetensorsTest {
 protected:
  // Three tensors of 4 bytes in shards of at most 8.
  std::vector<std::string> WriteShards() {
    const std::vector<TensorToWrite> tensors = {Tensor("a", TensorDtype::kU8, {4}, "aaaa"),
                                                Tensor("b", TensorDtype::kU8, {4}, "bbbb"),
                                                Tensor("c", TensorDtype::kU8, {4}, "cccc")};
    return *WriteModelWeights(dir_.path(), tensors, {.max_shard_bytes = 8});
  }
};

TEST_F(ShardedTest, SplitsAndReadsAsOneModel) {
  EXPECT_THAT(WriteShards(),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
  const auto tensors = OpenModelWeights(dir_.path());
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ(BytesOf(tensors->at("c")), "cccc");
}

TEST_F(ShardedTest, NamesAMissingShard) {
  WriteShards();
  ASSERT_TRUE(fs_.Remove(dir_ / "model-00002-of-00002.safetensors").ok());
  EXPECT_THAT(ModelError(), HasSubstr("model-00002-of-00002.safetensors: this shard is missing"));
}

TEST_F(ShardedTest, NamesATensorThatItsShardLacks) {
  WriteShards();
  Put("model.safetensors.index.json",
      R"({"weight_map": {"z": "model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(ModelError(),
              HasSubstr("the shard model-00001-of-00002.safetensors does not hold the tensor z"));
}

TEST_F(ShardedTest, RefusesAnIndexThatLeadsOutOfTheFolder) {
  for (const char* shard :
       {"../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", ""}) {
    Put("model.safetensors.index.json", absl::StrCat("{\"weight_map\": {\"a\": \"", shard, "\"}}"));
    EXPECT_THAT(ModelError(), HasSubstr("is outside the folder; refused")) << shard;
  }
}

TEST_F(ShardedTest, RefusesAnIndexThatNamesAPickle) {
  Put("evil.bin", "");
  Put("model.safetensors.index.json", R"({"weight_map": {"a": "evil.bin"}})");
  EXPECT_THAT(ModelError(), HasSubstr("evil.bin: pickle files can run code"));
}

TEST_F(ShardedTest, NamesAMalformedIndex) {
  const std::pair<const char*, const char*> cases[] = {
      {"{", "index.json: line 1, column 2: the text ends"},
      {"[]", "must be a JSON object"},
      {"{}", "'weight_map' is missing"},
      {R"({"weight_map": {"a": 1}})", "weight_map: 'a' must be text"}};
  for (const auto& [text, message] : cases) {
    Put("model.safetensors.index.json", text);
    EXPECT_THAT(ModelError(), HasSubstr(message));
  }
}

TEST_F(SafetensorsTest, OpensTheOnlyFileOfAFolderAndNoneOfSeveral) {
  ASSERT_TRUE(
      WriteSafetensors(dir_ / "adapter.safetensors", {Tensor("a", TensorDtype::kU8, {1}, "a")})
          .ok());
  EXPECT_TRUE(OpenModelWeights(dir_.path()).ok());
  Put("other.safetensors", "");
  EXPECT_THAT(ModelError(), HasSubstr("several .safetensors files (adapter.safetensors, "
                                      "other.safetensors), but no model.safetensors.index.json"));
}

TEST_F(SafetensorsTest, NamesAFolderThatIsNotThere) {
  EXPECT_EQ(OpenModelWeights(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SafetensorsTest, NamesAMissingTensorAndASimilarOne) {
  const TensorMap tensors = {{"model.norm.weight", {}}};
  EXPECT_TRUE(FindTensor(tensors, "model.norm.weight").ok());
  EXPECT_EQ(FindTensor(tensors, "model.nrom.weight").status().message(),
            "missing tensor model.nrom.weight (there is model.norm.weight)");
  EXPECT_EQ(FindTensor(tensors, "lm_head").status().message(), "missing tensor lm_head");
}

}  // namespace
}  // namespace rft
