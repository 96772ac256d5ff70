#include "tests/testing/loss_golden.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

namespace rft::testing {
namespace {

// Replaces the name of a batch by its rows, without the columns that the case's preset does not read.
void FillRows(const boost::json::value& batches, boost::json::value* one) {
  boost::json::object& inputs = one->at("inputs").as_object();
  const boost::json::value* reads = inputs.if_contains("reads");
  if (reads == nullptr) return;
  boost::json::value rows = batches.at(inputs.at("rows").as_string());
  for (const char* name : {"rollout_logp", "ref_logp", "entropy"}) {
    const auto& names = reads->as_array();
    if (std::find(names.begin(), names.end(), boost::json::value(name)) != names.end()) continue;
    for (boost::json::value& row : rows.as_array()) row.as_object().erase(name);
  }
  inputs["rows"] = std::move(rows);
}

}  // namespace

std::vector<boost::json::value> LossGoldenCases(std::string_view family) {
  const std::string path = std::string(RFT_TEST_DATA_DIR) + "/oracles/loss_cases_golden.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const boost::json::value document = boost::json::parse(text);
  std::vector<boost::json::value> cases;
  for (const boost::json::value& one : document.at("cases").as_array()) {
    const boost::json::string& name = one.at("family").as_string();
    if (std::string_view(name.data(), name.size()) != family) continue;
    cases.push_back(one);
    FillRows(document.at("batches"), &cases.back());
  }
  return cases;
}

std::vector<double> Doubles(const boost::json::value& array) {
  std::vector<double> numbers;
  for (const boost::json::value& x : array.as_array()) numbers.push_back(x.to_number<double>());
  return numbers;
}

double RelativeDifference(double actual, double expected) {
  return std::abs(actual - expected) / std::max(1.0, std::abs(expected));
}

}  // namespace rft::testing
