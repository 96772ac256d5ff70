// Values, gradients and metrics against tests/oracles/loss_cases_golden.json (an independent
// float64 implementation). Cases are grouped by the implementation a preset copies, so that a run
// loads the library few times.
#include <algorithm>
#include <cmath>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <tuple>

#include <gtest/gtest.h>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>

#include "losses/presets.h"
#include "tests/losses/loss_rows.h"
#include "tests/testing/loss_golden.h"

namespace rft::testing {
namespace {

using Json = boost::json::value;

std::string Text(const Json& value) { return std::string(value.as_string().c_str()); }

std::vector<double> OptionalDoubles(const Json& row, const char* key) {
  const Json* value = row.as_object().if_contains(key);
  return value == nullptr ? std::vector<double>() : Doubles(*value);
}

std::vector<LossRow> CaseRows(const Json& golden) {
  std::vector<LossRow> rows;
  for (const Json& json : golden.at("inputs").at("rows").as_array()) {
    LossRow row;
    row.logp = Doubles(json.at("logp"));
    row.old_logp = Doubles(json.at("old_logp"));
    row.mask = Doubles(json.at("mask"));
    row.sampling_logp = OptionalDoubles(json, "rollout_logp");
    row.ref_logp = OptionalDoubles(json, "ref_logp");
    row.entropy = OptionalDoubles(json, "entropy");
    const Json& advantage = json.at("adv");
    row.advantage = advantage.is_array()
                        ? Doubles(advantage)
                        : std::vector<double>(row.logp.size(), advantage.to_number<double>());
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<std::vector<double>> ExpectedGradient(const Json& golden) {
  std::vector<std::vector<double>> gradient;
  for (const Json& row : golden.at("expected").at("grad").as_array())
    gradient.push_back(Doubles(row));
  return gradient;
}

double Number(const Json& object, const char* key, double otherwise) {
  const Json* value = object.as_object().if_contains(key);
  return value == nullptr ? otherwise : value->to_number<double>();
}

// The shipped preset, with the sizes that the oracle chose for its short rows.
LossConfig CaseConfig(const Json& golden) {
  LossConfig config = LossDefaults(Text(golden.at("preset")));
  const Json& chosen = golden.at("config");
  config.agg_norm = Number(chosen, "agg_norm", config.agg_norm);
  if (config.top_entropy) config.top_entropy = Number(chosen, "top_entropy", 1.0);
  config.covariance.fraction = Number(chosen, "cov_ratio", config.covariance.fraction);
  config.covariance.low = Number(chosen, "cov_lb", config.covariance.low);
  config.covariance.high = Number(chosen, "cov_ub", config.covariance.high);
  return config;
}

LossResult RunCase(const Json& golden, at::ScalarType dtype) {
  return RunLoss(CaseRows(golden), CaseConfig(golden), dtype);
}

// Token means and extremes under the oracle's names. "tis_ess" is derived: mean^2 / mean of
// squares.
std::map<std::string, double> MetricMeans(const LossOutput& output) {
  std::map<std::string, double> means = output.metric_maxima;
  means.insert(output.metric_minima.begin(), output.metric_minima.end());
  means["n_tokens"] = output.num_tokens;
  means["n_seqs_active"] = output.num_rows;
  for (const auto& [name, sum] : output.metric_sums) means[name] = sum / output.num_tokens;
  if (means["tis_sq_mean"] > 0.0)
    means["tis_ess"] = means["tis_mean"] * means["tis_mean"] / means["tis_sq_mean"];
  return means;
}

// The oracle reports verl.reinforce_is's truncated weight as its ratio; ours is cispo, whose ratio is the ratio.
bool MeansSomethingElse(const Json& golden, const std::string& metric) {
  return Text(golden.at("preset")) == "verl.reinforce_is" &&
         (metric == "ratio_mean" || metric == "ratio_max");
}

void ExpectMetrics(const Json& golden, const LossOutput& output) {
  const std::map<std::string, double> means = MetricMeans(output);
  for (const auto& [key, expected] : golden.at("expected").at("metrics").as_object()) {
    const std::string name(key);
    if (MeansSomethingElse(golden, name)) continue;
    ASSERT_TRUE(means.count(name) > 0) << "metric " << name << " is missing";
    EXPECT_LE(RelativeDifference(means.at(name), expected.to_number<double>()), 1e-9)
        << "metric " << name;
  }
}

struct Precision {
  const char* name;
  at::ScalarType dtype;
  double tolerance;
  friend void PrintTo(const Precision& precision, std::ostream* os) { *os << precision.name; }
};

class LossOracleTest : public ::testing::TestWithParam<std::tuple<const char*, Precision>> {};

TEST_P(LossOracleTest, ValueAndGradientMatchEveryPreset) {
  const auto [source, precision] = GetParam();
  int num_cases = 0;
  for (const Json& golden : LossGoldenCases("policy")) {
    if (Text(golden.at("preset")).rfind(source, 0) != 0) continue;
    SCOPED_TRACE(Text(golden.at("id")));
    const LossResult result = RunCase(golden, precision.dtype);
    EXPECT_LE(RelativeDifference(result.loss, golden.at("expected").at("loss").to_number<double>()),
              precision.tolerance);
    EXPECT_LE(GradientDifference(result.gradient, ExpectedGradient(golden)), precision.tolerance);
    ++num_cases;
  }
  EXPECT_GE(num_cases, 27);
}

INSTANTIATE_TEST_SUITE_P(
    , LossOracleTest,
    ::testing::Combine(::testing::Values("rft.", "fireworks.", "tinker.", "trl.", "verl."),
                       ::testing::Values(Precision{"float64", at::kDouble, 1e-9},
                                         Precision{"float32", at::kFloat, 1e-5})),
    [](const auto& param) {
      std::string name = std::get<0>(param.param);
      name.back() = '_';
      return name + std::get<1>(param.param).name;
    });

TEST(LossOracleMetricsTest, MatchEveryPreset) {
  for (const Json& golden : LossGoldenCases("policy")) {
    SCOPED_TRACE(Text(golden.at("id")));
    ExpectMetrics(golden, RunCase(golden, at::kDouble).output);
  }
}

TEST(LossOracleAccumulationTest, MicroBatchesAddUpToTheStep) {
  const std::vector<Json> cases = LossGoldenCases("accum");
  ASSERT_EQ(cases.size(), 4u);
  for (const Json& golden : cases) {
    SCOPED_TRACE(Text(golden.at("id")));
    std::vector<std::vector<int>> calls;
    for (const Json& call : golden.at("inputs").at("micro_batches").as_array()) {
      const std::vector<double> rows = Doubles(call);
      calls.emplace_back(rows.begin(), rows.end());
    }
    const LossResult result = RunLossInCalls(CaseRows(golden), calls, CaseConfig(golden));
    EXPECT_LE(RelativeDifference(result.loss, golden.at("expected").at("loss").to_number<double>()),
              1e-9);
    EXPECT_LE(GradientDifference(result.gradient, ExpectedGradient(golden)), 1e-9);
  }
}

TEST(LossOracleTableTest, SpellsEveryPresetOfTheGoldenFile) {
  std::set<std::string> golden, table;
  for (const Json& one : LossGoldenCases("policy")) golden.insert(Text(one.at("preset")));
  for (const LossPreset& preset : LossPresets()) table.insert(preset.name);
  EXPECT_EQ(golden, table);
}

}  // namespace
}  // namespace rft::testing
