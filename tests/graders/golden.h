// Expected values made by the scripts in tests/graders/data.
#pragma once

#include <fstream>
#include <sstream>
#include <string>

#include <boost/json.hpp>

#include "gtest/gtest.h"
#include "rft/io/json.h"

namespace rft {

// Null, with a test failure, if the file can't be read.
inline json::value ReadGolden(const std::string& name) {
  std::string path = RFT_TEST_DATA_DIR;
  path.append("/graders/data/").append(name);
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  absl::StatusOr<json::value> parsed = ParseJson(text.str());
  if (parsed.ok()) return *std::move(parsed);
  ADD_FAILURE() << path << ": " << parsed.status();
  return nullptr;
}

}  // namespace rft
