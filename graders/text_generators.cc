#include "graders/text_generators.h"

#include <map>
#include <mutex>
#include <utility>

namespace rft {
namespace {

struct Table {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<TextGenerator>> generators;
};

Table& TheTable() {
  static Table* table = new Table;
  return *table;
}

}  // namespace

void SetTextGenerator(const std::string& name, std::shared_ptr<TextGenerator> generator) {
  std::lock_guard<std::mutex> lock(TheTable().mutex);
  if (generator == nullptr) {
    TheTable().generators.erase(name);
  } else {
    TheTable().generators[name] = std::move(generator);
  }
}

std::shared_ptr<TextGenerator> FindTextGenerator(const std::string& name) {
  std::lock_guard<std::mutex> lock(TheTable().mutex);
  auto it = TheTable().generators.find(name);
  return it == TheTable().generators.end() ? nullptr : it->second;
}

}  // namespace rft
