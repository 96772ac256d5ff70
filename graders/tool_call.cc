// tool_call: the tools the completion calls, with their arguments, against the expected calls.
//
//   expected    template, default {{item.answer}}: a list of calls, or one; [] means that none is right
//   ordered     false (default): the calls may come in any order
//   score       all (default: 1 or 0) | share: right calls / the greater number of calls
//   tolerance   numbers in arguments may differ by tolerance * max(1, |expected|), default 0
// A call is {"name": ..., "arguments": {...}}, or an OpenAI tool call ({"function": {"name", "arguments"}}); arguments may be
// JSON text, their order doesn't matter and 1 is 1.0. The completion's calls are its <tool_call> blocks (graders/sample.h), or
// the completion itself if it is such JSON, fenced or not.
// Sub-scores: name (share of calls whose name is right), arguments (share that is all right), count (1: as many as expected).

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "graders/grader.h"
#include "graders/json_text.h"
#include "graders/param_reader.h"
#include "graders/quick_json.h"
#include "graders/sample.h"
#include "graders/template.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

struct Call {
  std::string name;
  json::value arguments;
};
struct QuickCall {  // views into readers
  std::string_view name;
  const QuickValue& arguments;
};
using QuickCalls = absl::InlinedVector<QuickCall, 4>;

// Arguments written as text are read as the JSON they hold; what isn't JSON stays text.
json::value ReadArguments(const json::value& written) {
  if (!written.is_string()) return written;
  absl::StatusOr<json::value> parsed = ParseJson(std::string_view(written.get_string()));
  return parsed.ok() ? *std::move(parsed) : written;
}

std::optional<Call> ReadCall(const json::value& value) {
  if (!value.is_object()) return std::nullopt;
  const json::object* object = &value.get_object();
  if (const json::value* function = object->if_contains("function");
      function != nullptr && function->is_object())
    object = &function->get_object();
  const json::value* name = object->if_contains("name");
  if (name == nullptr || !name->is_string()) return std::nullopt;
  for (const char* key : {"arguments", "parameters"}) {
    if (const json::value* arguments = object->if_contains(key))
      return Call{std::string(name->get_string()), ReadArguments(*arguments)};
  }
  return Call{std::string(name->get_string()), json::object()};
}

// nullopt: not a call and not a list of calls.
std::optional<std::vector<Call>> ReadCalls(const json::value& value) {
  std::vector<Call> calls;
  if (!value.is_array()) {
    std::optional<Call> call = ReadCall(value);
    if (!call.has_value()) return std::nullopt;
    calls.push_back(*std::move(call));
    return calls;
  }
  for (const json::value& one : value.get_array()) {
    std::optional<Call> call = ReadCall(one);
    if (!call.has_value()) return std::nullopt;
    calls.push_back(*std::move(call));
  }
  return calls;
}

std::vector<Call> CallsOf(const GradeInput& input) {
  std::vector<Call> calls;
  if (HasToolCallMarkup(input.completion)) {
    for (const ToolCall& call : ParseSample(input.completion, input.finish_reason).tool_calls)
      calls.push_back({call.name, ReadArguments(json::value(call.arguments))});
    return calls;
  }
  const absl::StatusOr<json::value> parsed = ParseModelJson(input.completion, /*fences=*/true);
  if (parsed.ok()) calls = ReadCalls(*parsed).value_or(std::vector<Call>());
  return calls;
}

// False: a call that is not just {"name": text, "arguments": JSON} has to be looked at the long way.
bool AddQuickCalls(const QuickValue& value, QuickCalls* calls) {
  if (value.is_array()) {
    for (const QuickValue* item = value.first(); item != value.next(); item = item->next()) {
      if (!item->is_object() || !AddQuickCalls(*item, calls)) return false;
    }
    return true;
  }
  if (!value.is_object()) return false;
  const QuickObject object = value.object();
  if (Member(object, "function") != nullptr) return false;
  const QuickValue* const name = Member(object, "name");
  const QuickValue* const arguments = Member(object, "arguments");
  if (name == nullptr || !name->is_string() || arguments == nullptr || arguments->is_string())
    return false;
  calls->push_back({name->text(), *arguments});
  return true;
}

// The completion's calls; each block of markup needs a reader of its own.
bool AddQuickCallsOf(std::string_view completion, absl::InlinedVector<QuickJson, 4>* readers,
                     QuickCalls* calls) {
  if (!HasToolCallMarkup(completion)) {
    const QuickJson::Value* value = readers->emplace_back().Read(FencedOrAll(completion));
    return value != nullptr && AddQuickCalls(*value, calls);
  }
  while (const std::optional<ToolCallBlock> block = NextToolCallBlock(completion)) {
    const QuickJson::Value* value = readers->emplace_back().Read(block->body);
    if (value == nullptr || !value->is_object() || !AddQuickCalls(*value, calls)) return false;
    completion.remove_prefix(block->end);
  }
  return true;
}

class ToolCallGrader : public Grader {
 public:
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    auto grader = std::make_unique<ToolCallGrader>();
    grader->expected_ = ReadTemplate(params, "expected", "{{item.answer}}");
    grader->ordered_ = params.Bool("ordered", false);
    grader->share_ = params.Choice("score", {"all", "share"}, "all") == "share";
    grader->tolerance_ = params.Double("tolerance", 0.0, 0.0);
    RFT_RETURN_IF_ERROR(params.Finish());
    return grader;
  }

  Grade Run(const GradeInput& input) const override {
    TextBuffer buffer;
    const absl::StatusOr<std::string_view> text = expected_.View(input, &buffer);
    if (!text.ok()) return GradeWithoutText(text.status());
    absl::InlinedVector<QuickJson, 4> readers;
    QuickCalls found, wanted;
    const QuickJson::Value* value = QuickJson::ReadRemembered(*text);
    if (value != nullptr && AddQuickCalls(*value, &wanted) &&
        AddQuickCallsOf(input.completion, &readers, &found))
      return Compare<QuickCall>(found, wanted);
    const absl::StatusOr<json::value> parsed = ParseJson(*text);
    const std::optional<std::vector<Call>> expected =
        parsed.ok() ? ReadCalls(*parsed) : std::nullopt;
    if (!expected.has_value()) {
      return GradeError{absl::StrCat(
          "row ", input.row.index,
          ": the expected value is not a list of tool calls: ", std::string(text->substr(0, 100)))};
    }
    return Compare<Call>(CallsOf(input), *expected);
  }

 private:
  template <typename AnyCall>
  Grade Compare(absl::Span<const AnyCall> found, absl::Span<const AnyCall> expected) const {
    const size_t most = std::max(found.size(), expected.size());
    const auto share = [most](size_t n) {
      return most == 0 ? 1.0 : static_cast<double>(n) / static_cast<double>(most);
    };
    const double right = share(Matches(found, expected, /*with_arguments=*/true));
    const double names =
        right == 1.0 ? 1.0 : share(Matches(found, expected, /*with_arguments=*/false));
    Score score;
    score.value = share_ ? right : (right == 1.0 ? 1.0 : 0.0);
    score.sub_scores["arguments"] = right;
    score.sub_scores["count"] = found.size() == expected.size() ? 1.0 : 0.0;
    score.sub_scores["name"] = names;
    if (right < 1.0) {
      score.reason = "called";
      for (const AnyCall& call : found) {
        score.reason.append(" ").append(call.name).append("(");
        score.reason.append(ToJson(call.arguments), 0, 100).append(")");
      }
      if (found.empty()) score.reason += " nothing";
      if (score.reason.size() > 400) score.reason.resize(400);
    }
    return score;
  }

  // How many expected calls have a partner of their own.
  template <typename AnyCall>
  size_t Matches(absl::Span<const AnyCall> found, absl::Span<const AnyCall> expected,
                 bool with_arguments) const {
    const auto same = [&](const AnyCall& a, const AnyCall& b) {
      return a.name == b.name &&
             (!with_arguments || JsonEqual(a.arguments, b.arguments, tolerance_));
    };
    size_t count = 0;
    if (ordered_) {
      for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i)
        count += same(found[i], expected[i]);
      return count;
    }
    absl::InlinedVector<bool, 16> taken(found.size(), false);
    for (const AnyCall& wanted : expected) {
      for (size_t i = 0; i < found.size(); ++i) {
        if (taken[i] || !same(found[i], wanted)) continue;
        taken[i] = true;
        ++count;
        break;
      }
    }
    return count;
  }

  Template expected_;
  bool ordered_ = false;
  bool share_ = false;
  double tolerance_ = 0.0;
};

}  // namespace

RFT_REGISTER_GRADER("tool_call", ToolCallGrader);

}  // namespace rft
