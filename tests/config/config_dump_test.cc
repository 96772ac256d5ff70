#include "rft/config/config_dump.h"

#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace rft {
namespace {

using ::testing::HasSubstr;

boost::json::value Json(const std::string& text) { return boost::json::parse(text); }

TEST(ResolvedJsonTest, HoldsEveryFieldAndNullForUnsetOnes) {
  RunConfig config;
  config.trainer.learning_rate = 1e-5;
  const boost::json::value json = Json(ResolvedJson(config));
  EXPECT_EQ(json.at("trainer").at("steps").as_int64(), 40);
  EXPECT_EQ(json.at("trainer").at("learning_rate").as_double(), 1e-5);
  EXPECT_TRUE(json.at("losses").at("clip_high").is_null());
  EXPECT_TRUE(json.at("losses").at("correction").at("cap").is_null());
  EXPECT_TRUE(json.at("graders").as_array().empty());
  EXPECT_FALSE(json.as_object().contains("locations"));
}

TEST(ConfigSchemaTest, DescribesTypesRangesChoicesAndRequiredKeys) {
  const boost::json::value schema = Json(ConfigSchemaJson());
  const boost::json::value& properties = schema.at("properties");
  EXPECT_EQ(schema.at("required"), Json(R"(["model"])"));
  EXPECT_FALSE(schema.at("additionalProperties").as_bool());
  EXPECT_EQ(properties.at("data").at("required"), Json(R"(["train"])"));
  const boost::json::value& top_p = properties.at("rollout").at("properties").at("top_p");
  EXPECT_EQ(top_p.at("type"), "number");
  EXPECT_EQ(top_p.at("exclusiveMinimum").as_double(), 0.0);
  EXPECT_EQ(top_p.at("maximum").as_double(), 1.0);
  const boost::json::value& losses = properties.at("losses").at("properties");
  EXPECT_EQ(losses.at("kl_estimator").at("enum"),
            Json(R"(["k1", "k2", "k3", "abs", "low-var", "k1+", "k3+", null])"));
  EXPECT_EQ(losses.at("clip_low").at("type"), Json(R"(["number", "null"])"));
  EXPECT_EQ(properties.at("graders").at("items").at("required"), Json(R"(["type"])"));
}

// Every key of a resolved configuration is a property of the schema, and the other way round.
void ExpectSameKeys(const boost::json::value& schema, const boost::json::value& value,
                    const std::string& path) {
  std::set<std::string> in_schema, in_value;
  for (const auto& member : schema.at("properties").as_object())
    in_schema.insert(std::string(member.key()));
  for (const auto& member : value.as_object()) in_value.insert(std::string(member.key()));
  EXPECT_EQ(in_schema, in_value) << path;
  for (const auto& member : value.as_object()) {
    if (member.value().is_object())
      ExpectSameKeys(schema.at("properties").at(member.key()), member.value(),
                     path + "." + std::string(member.key()));
  }
}

TEST(ConfigSchemaTest, HasTheKeysOfTheResolvedConfiguration) {
  ExpectSameKeys(Json(ConfigSchemaJson()), Json(ResolvedJson(RunConfig{})), "");
}

TEST(ConfigDocsTest, HasATableRowPerField) {
  const std::string docs = ConfigDocsMarkdown();
  EXPECT_THAT(docs, HasSubstr("## `losses.correction`\n"));
  EXPECT_THAT(
      docs,
      HasSubstr(
          "| `steps` | integer (steps) | `40` | >= 1 | Optimizer steps of the whole run. |\n"));
  EXPECT_THAT(docs, HasSubstr("| `model` | string (path) | required |  |"));
  EXPECT_THAT(
      docs,
      HasSubstr("| `kl_coef` | number |  | >= 0 | Coefficient of KL(policy \\|\\| reference)"));
}

// A field without a description would leave a hole in the docs.
TEST(ConfigDocsTest, EveryFieldHasADescription) {
  class Checker : public ConfigVisitor {
   public:
    void Field(const char* name, FieldRef, const FieldInfo& info) override {
      EXPECT_GT(std::string(info.doc).size(), 10u) << name;
      EXPECT_EQ(std::string(info.doc).back(), '.') << name;
    }
    void BeginSection(const char*, const char*) override {}
    void EndSection() override {}
  } checker;
  RunConfig config;
  config.Visit(checker);
}

}  // namespace
}  // namespace rft
