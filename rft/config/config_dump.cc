#include "rft/config/config_dump.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "rft/config/value_reader.h"
#include "rft/core/json_writer.h"

namespace rft {
namespace {

// A field's value as JSON.
struct ValueWriter {
  JsonWriter& w;
  void operator()(const bool* v) { w.Bool(*v); }
  void operator()(const int64_t* v) { w.Int(*v); }
  void operator()(const double* v) { w.Double(*v); }
  void operator()(const std::string* v) { w.String(*v); }
  void operator()(const std::vector<std::string>* v) {
    w.BeginArray();
    for (const std::string& text : *v) w.String(text);
    w.EndArray();
  }
  template <typename T>
  void operator()(const std::optional<T>* v) {
    if (*v) {
      (*this)(&**v);
    } else {
      w.Null();
    }
  }
  void operator()(const std::vector<GraderSpec>* v) {
    w.BeginArray();
    for (const GraderSpec& grader : *v) {
      w.BeginObject();
      w.Key("name"), w.String(grader.name);
      w.Key("type"), w.String(grader.type);
      w.Key("weight"), w.Double(grader.weight);
      w.Key("deadline_s"), w.Double(grader.deadline_s);
      for (const auto& [key, text] : grader.params) w.Key(key), w.String(text);
      w.EndObject();
    }
    w.EndArray();
  }
};

struct TypeName {
  const char* operator()(const bool*) { return "boolean"; }
  const char* operator()(const int64_t*) { return "integer"; }
  const char* operator()(const double*) { return "number"; }
  const char* operator()(const std::string*) { return "string"; }
  const char* operator()(const std::vector<std::string>*) { return "list of strings"; }
  const char* operator()(const std::vector<GraderSpec>*) { return "list of graders"; }
  template <typename T>
  const char* operator()(const std::optional<T>*) {
    return (*this)(static_cast<const T*>(nullptr));
  }
};

std::string ValueJson(const FieldRef& field) {
  JsonWriter w;
  std::visit(ValueWriter{w}, field);
  return w.Take();
}

std::string TypeOf(const FieldRef& field) { return std::visit(TypeName{}, field); }

bool IsOptional(const FieldRef& field) {
  return ValueJson(field) == "null";
}  // of a default-made section

class Dumper : public ConfigVisitor {
 public:
  Dumper() { w_.BeginObject(); }
  void Field(const char* name, FieldRef field, const FieldInfo&) override {
    w_.Key(name);
    std::visit(ValueWriter{w_}, field);
  }
  void BeginSection(const char* name, const char*) override {
    w_.Key(name);
    w_.BeginObject();
  }
  void EndSection() override { w_.EndObject(); }
  std::string Take() {
    w_.EndObject();
    return w_.Take() + "\n";
  }

 private:
  JsonWriter w_{2};
};

class SchemaWriter : public ConfigVisitor {
 public:
  SchemaWriter() {
    w_.BeginObject();
    w_.Key("$schema"), w_.String("https://json-schema.org/draft/2020-12/schema");
    w_.Key("title"), w_.String("rft run.yaml");
    Open();
  }

  void Field(const char* name, FieldRef field, const FieldInfo& info) override {
    if (info.required) required_.back().push_back(name);
    w_.Key(name);
    w_.BeginObject();
    const std::string type = TypeOf(field);
    if (type.starts_with("list of")) {
      w_.Key("type"), w_.String("array");
      w_.Key("items");
      type == "list of graders" ? WriteGraderItems() : w_.Raw(R"({"type": "string"})");
    } else {
      w_.Key("type");
      IsOptional(field) ? w_.Raw(absl::StrCat("[\"", type, "\", \"null\"]")) : w_.String(type);
    }
    if (!info.choices.empty()) WriteChoices(info, IsOptional(field));
    if (std::isfinite(info.min)) w_.Key("minimum"), w_.Double(info.min);
    if (std::isfinite(info.above)) w_.Key("exclusiveMinimum"), w_.Double(info.above);
    if (std::isfinite(info.max)) w_.Key("maximum"), w_.Double(info.max);
    if (!info.required) w_.Key("default"), std::visit(ValueWriter{w_}, field);
    w_.Key("description"), w_.String(info.doc);
    w_.EndObject();
  }

  void BeginSection(const char* name, const char* doc) override {
    w_.Key(name);
    w_.BeginObject();
    w_.Key("description"), w_.String(doc);
    Open();
  }

  void EndSection() override { Close(); }

  std::string Take() {
    Close();
    return w_.Take() + "\n";
  }

 private:
  void Open() {
    w_.Key("type"), w_.String("object");
    w_.Key("additionalProperties"), w_.Bool(false);
    w_.Key("properties");
    w_.BeginObject();
    required_.emplace_back();
  }

  void Close() {
    w_.EndObject();
    if (!required_.back().empty()) {
      w_.Key("required");
      w_.BeginArray();
      for (const std::string& name : required_.back()) w_.String(name);
      w_.EndArray();
    }
    required_.pop_back();
    w_.EndObject();
  }

  void WriteChoices(const FieldInfo& info, bool nullable) {
    w_.Key("enum");
    w_.BeginArray();
    for (const std::string& choice : info.choices) w_.String(choice);
    if (nullable) w_.Null();
    w_.EndArray();
  }

  void WriteGraderItems() {
    w_.Raw(
        R"({"type": "object", "required": ["type"], "properties": {"name": {"type": "string"}, )"
        R"("type": {"type": "string"}, "weight": {"type": "number"}, )"
        R"("deadline_s": {"type": "number", "exclusiveMinimum": 0}}, "additionalProperties": true})");
  }

  JsonWriter w_{2};
  std::vector<std::vector<std::string>> required_;  // per open section
};

class DocsWriter : public ConfigVisitor {
 public:
  DocsWriter() { Header("", ""); }

  void Field(const char* name, FieldRef field, const FieldInfo& info) override {
    const std::string value = IsOptional(field) ? "" : absl::StrCat("`", ValueJson(field), "`");
    std::string allowed = absl::StrJoin(info.choices, ", ");
    if (allowed.empty()) allowed = RangeText(info);
    const std::string type =
        *info.unit ? absl::StrCat(TypeOf(field), " (", info.unit, ")") : TypeOf(field);
    absl::StrAppend(&sections_[open_.back()].text, "| `", name, "` | ", type, " | ",
                    info.required ? "required" : value, " | ", allowed, " | ",
                    absl::StrReplaceAll(info.doc, {{"|", "\\|"}}), " |\n");
  }

  void BeginSection(const char* name, const char* doc) override {
    const std::string& outer = sections_[open_.back()].path;
    Header(outer.empty() ? name : absl::StrCat(outer, ".", name), doc);
  }

  void EndSection() override { open_.pop_back(); }

  std::string Take() const {
    std::string text;
    for (const Section& section : sections_)
      absl::StrAppend(&text, text.empty() ? "" : "\n", section.text);
    return text;
  }

 private:
  struct Section {
    std::string path;
    std::string text;
  };

  void Header(const std::string& path, const char* doc) {
    open_.push_back(sections_.size());
    const std::string title =
        path.empty() ? "## Top level" : absl::StrCat("## `", path, "`\n\n", doc);
    sections_.push_back(
        {path,
         absl::StrCat(
             title, "\n\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n")});
  }

  std::vector<Section> sections_;
  std::vector<size_t> open_;
};

}  // namespace

std::string ResolvedJson(const RunConfig& config) {
  RunConfig copy = config;  // visitors take mutable fields
  Dumper dumper;
  copy.Visit(dumper);
  return dumper.Take();
}

std::string ConfigSchemaJson() {
  RunConfig defaults;
  SchemaWriter writer;
  defaults.Visit(writer);
  return writer.Take();
}

std::string ConfigDocsMarkdown() {
  RunConfig defaults;
  DocsWriter writer;
  defaults.Visit(writer);
  return writer.Take();
}

}  // namespace rft
