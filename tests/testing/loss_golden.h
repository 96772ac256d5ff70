// Reads tests/oracles/loss_cases_golden.json: cases computed by an independent implementation of
// every formula.
#pragma once

#include <string_view>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

namespace rft::testing {

// The cases of one family: "policy", "accum", "advantage", "filter", "overlong". Throws when the
// file is missing or broken.
std::vector<boost::json::value> LossGoldenCases(std::string_view family);

// A JSON array of numbers.
std::vector<double> Doubles(const boost::json::value& array);

// |actual - expected| / max(1, |expected|); NaN if either is.
double RelativeDifference(double actual, double expected);

}  // namespace rft::testing
