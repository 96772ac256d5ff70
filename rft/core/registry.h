// A name -> factory table with a single registration line per file:
//
//   RFT_REGISTER_GRADER("regex_match", RegexMatch);      // at the end of graders/regex_match.cc
//
// Each kind of thing (grader, loss, model, engine) is one instantiation of Registry<Interface, Args...>.
// Thread safety: registration happens during static initialisation; look-ups afterwards are read-only.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rft {

template <typename Result, typename... Args>
class Registry {
 public:
  using Factory = std::function<Result(Args...)>;

  // The one table of this kind.
  static Registry& Get() {
    static Registry* table = new Registry;
    return *table;
  }

  // Returns true so that it can initialise a static. A later registration of the same name replaces the earlier one.
  bool Add(std::string_view name, Factory factory) {
    factories_[std::string(name)] = std::move(factory);
    return true;
  }

  // nullptr when nothing of that name is registered.
  const Factory* Find(std::string_view name) const {
    auto it = factories_.find(std::string(name));
    return it == factories_.end() ? nullptr : &it->second;
  }

  // All registered names, sorted: for "known ones are ..." messages and for contract tests.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& [name, factory] : factories_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, Factory> factories_;
};

}  // namespace rft
