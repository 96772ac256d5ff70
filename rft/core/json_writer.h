// Writes JSON text in the order of the calls, numbers as the shortest text that reads back as the
// same bits. std only.
//
//   JsonWriter w(/*indent=*/2);
//   w.BeginObject();
//   w.Key("steps"); w.Int(40);
//   w.Key("betas"); w.BeginArray(); w.Double(0.9); w.Double(0.95); w.EndArray();
//   w.EndObject();
//   std::string text = w.Take();
//
// REQUIRES: calls nest as JSON does (a Key before each member's value). NaN and infinities become
// null.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rft {

class JsonWriter {
 public:
  // indent 0: one line.
  explicit JsonWriter(int indent = 0) : indent_(indent) {}

  void BeginObject() { Begin('{'); }
  void EndObject() { End('}'); }
  void BeginArray() { Begin('['); }
  void EndArray() { End(']'); }
  void Key(std::string_view name);
  void String(std::string_view text);
  void Int(int64_t value);
  void Uint(uint64_t value);
  void Double(double value);
  void Float(float value);
  void Bool(bool value);
  void Null();
  // Text that is JSON already.
  void Raw(std::string_view json);

  std::string Take() { return std::move(out_); }

 private:
  void Begin(char open);
  void End(char close);
  void BeforeValue();
  void NewLine();

  const int indent_;
  std::string out_;
  std::vector<bool> has_items_;  // per open object or array
  bool after_key_ = false;
};

}  // namespace rft
