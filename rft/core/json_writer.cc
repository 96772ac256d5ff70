#include "rft/core/json_writer.h"

#include <cmath>

#include "rft/core/text.h"

namespace rft {

void JsonWriter::NewLine() {
  if (indent_ > 0)
    out_.append(1, '\n').append(has_items_.size() * static_cast<size_t>(indent_), ' ');
}

void JsonWriter::BeforeValue() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (has_items_.empty()) return;
  if (has_items_.back()) out_ += indent_ > 0 ? "," : ", ";
  has_items_.back() = true;
  NewLine();
}

void JsonWriter::Key(std::string_view name) {
  BeforeValue();
  out_ += JsonQuote(name);
  out_ += ": ";
  after_key_ = true;
}

void JsonWriter::Begin(char open) {
  BeforeValue();
  out_ += open;
  has_items_.push_back(false);
}

void JsonWriter::End(char close) {
  const bool had_items = has_items_.back();
  has_items_.pop_back();
  if (had_items) NewLine();
  out_ += close;
}

void JsonWriter::Raw(std::string_view json) {
  BeforeValue();
  out_ += json;
}

void JsonWriter::String(std::string_view text) { Raw(JsonQuote(text)); }
void JsonWriter::Int(int64_t value) { Raw(std::to_string(value)); }
void JsonWriter::Uint(uint64_t value) { Raw(std::to_string(value)); }
void JsonWriter::Double(double value) {
  Raw(std::isfinite(value) ? ShortestDouble(value) : "null");
}
void JsonWriter::Float(float value) { Raw(std::isfinite(value) ? ShortestFloat(value) : "null"); }
void JsonWriter::Bool(bool value) { Raw(value ? "true" : "false"); }
void JsonWriter::Null() { Raw("null"); }

}  // namespace rft
