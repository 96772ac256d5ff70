#include "graders/math_expression.h"

#include <utility>

namespace rft {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxDigits = 18;

constexpr std::pair<std::string_view, std::string_view> kLooks[] = {
    {"\\left", ""},
    {"\\right", ""},
    {"\\displaystyle", ""},
    {"\\dfrac", "\\frac"},
    {"\\tfrac", "\\frac"},
    {"\\cfrac", "\\frac"},
    {"\\,", " "},
    {"\\!", ""},
    {"\\;", ""},
    {"\\:", ""},
    {"\\ ", " "},
    {"\\quad", " "},
    {"~", " "},
    {"\\$", ""},
    {"{,}", ","},
    {"\\cdot", "*"},
    {"\\times", "*"},
    {"\\div", "/"},
    {"\\lbrace", "\\{"},
    {"\\rbrace", "\\}"},
    {"^\\circ", ""},
    {"^{\\circ}", ""},
    {"\xE2\x88\x92", "-"},
    {"\xC3\x97", "*"},
    {"\xC2\xB7", "*"},
    {"\xC3\xB7", "/"},
    {"\xCF\x80", "\\pi "},
    {"\xC2\xB0", ""},
    {"\\%", "%"},
};

// Words that may stand behind a number; math-verify leaves units out of the comparison.
constexpr std::string_view kUnits[] = {
    "cm",    "m",     "km",     "mm",    "kg",           "g",      "mg",      "s",
    "min",   "h",     "hours",  "hour",  "minutes",      "minute", "seconds", "second",
    "days",  "day",   "years",  "year",  "degrees",      "degree", "dollars", "dollar",
    "cents", "cent",  "meters", "meter", "inches",       "inch",   "feet",    "foot",
    "ft",    "miles", "mile",   "units", "square units", "points", "people",  "students",
    "km/h",  "mph"};

constexpr std::string_view kFunctions[] = {"sin", "cos", "tan", "log", "ln",  "exp",  "max", "min",
                                           "gcd", "lcm", "mod", "det", "arg", "sqrt", "pi"};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// "10 cm" -> "10". One letter may be a variable.
std::string_view WithoutPlainUnit(std::string_view text) {
  const size_t space = text.rfind(' ');
  if (space == std::string_view::npos || space == 0) return text;
  const std::string_view word = text.substr(space + 1);
  const size_t end = text.find_last_not_of(' ', space);
  if (word.size() < 2 || end == std::string_view::npos || !IsDigit(text[end])) return text;
  for (const std::string_view unit : kUnits) {
    if (word == unit) return text.substr(0, end + 1);
  }
  return text;
}

// Recursive descent over
//   sum = product {(+|-) product}     product = power {[*|/] power}     power = atom [^ exponent]
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::optional<MathExpression> Parse() {
    if (text_.empty()) return std::nullopt;
    if (Skip(); Peek() == '$') ++pos_;  // 5 dollars
    std::optional<MathValue> value = Sum();
    if (!value.has_value()) return std::nullopt;
    const std::string_view read = text_.substr(0, pos_);
    MathExpression result{*std::move(value), decimal_, false,
                          read.find_first_not_of("0123456789.,") == std::string_view::npos};
    Skip();
    if (Peek() == '%') {
      ++pos_;
      result.percent = true;
    } else if (!Unit()) {
      return std::nullopt;
    }
    Skip();
    if (pos_ != text_.size()) return std::nullopt;
    return result;
  }

 private:
  using Value = std::optional<MathValue>;

  char Peek(size_t ahead = 0) const {
    return pos_ + ahead < text_.size() ? text_[pos_ + ahead] : '\0';
  }
  void Skip() {
    while (Peek() == ' ' || Peek() == '\n' || Peek() == '\t') ++pos_;
  }
  bool Take(std::string_view word) {
    if (!text_.substr(pos_).starts_with(word)) return false;
    pos_ += word.size();
    return true;
  }

  Value Sum() {
    if (++depth_ > kMaxDepth) return std::nullopt;
    Skip();
    bool negative = false;
    if (Peek() == '-' || Peek() == '+') negative = text_[pos_++] == '-';
    Value total = Product();
    if (negative && total.has_value()) total = Multiply(MathValue::Whole(-1), *total);
    while (total.has_value()) {
      Skip();
      if (Peek() != '+' && Peek() != '-') break;
      const bool minus = text_[pos_++] == '-';
      Value term = Product();
      if (minus && term.has_value()) term = Multiply(MathValue::Whole(-1), *term);
      total = term.has_value() ? Add(*total, *term) : std::nullopt;
    }
    --depth_;
    return total;
  }

  Value Product() {
    Value product = Factor();
    while (product.has_value()) {
      Skip();
      const char c = Peek();
      if (c == '*' || c == '/') {
        ++pos_;
        Skip();
        bool negative = false;
        if (Peek() == '-') negative = true, ++pos_;
        const Value next = Factor();
        if (!next.has_value()) return std::nullopt;
        product = c == '*' ? Multiply(*product, *next) : Divide(*product, *next);
        if (negative && product.has_value()) product = Multiply(MathValue::Whole(-1), *product);
        after_slash_ = c == '/';
      } else if (c == '(' || c == '{' || IsLetter(c) ||
                 (c == '\\' && !AtUnit() && Peek(1) != '}')) {
        if (after_slash_) return std::nullopt;  // 1/2x: which is it?
        const Value next = Factor();
        product = next.has_value() ? Multiply(*product, *next) : std::nullopt;
      } else {
        break;
      }
    }
    after_slash_ = false;
    return product;
  }

  Value Factor() {
    Skip();
    const bool digits = IsDigit(Peek()) || Peek() == '.';
    Value value = digits ? Number() : Atom();
    Skip();
    if (!value.has_value() || Peek() != '^') return value;
    ++pos_;
    const std::optional<int> exponent = Exponent();
    if (!exponent.has_value()) return std::nullopt;
    return Power(*value, *exponent);
  }

  std::optional<int> Exponent() {
    Skip();
    const bool braces = Peek() == '{', brackets = Peek() == '(';
    if (braces || brackets) ++pos_;
    const bool negative = (braces || brackets) && Peek() == '-';
    if (negative) ++pos_;
    int value = 0;
    size_t digits = 0;
    while (IsDigit(Peek()) && digits < 3) {
      value = 10 * value + (text_[pos_++] - '0');
      ++digits;
      if (!braces && !brackets)
        break;  // x^12 is x^1 2 in LaTeX, and most likely x^{12} in plain text
    }
    if (digits == 0 || IsDigit(Peek())) return std::nullopt;
    if (braces || brackets) {
      if (Peek() != (braces ? '}' : ')')) return std::nullopt;
      ++pos_;
    }
    return negative ? -value : value;
  }

  Value Number() {
    int64_t digits = 0, scale = 1;
    size_t count = 0;
    bool fraction = false;
    const size_t begin = pos_;
    while (true) {
      const char c = Peek();
      if (IsDigit(c)) {
        if (++count > kMaxDigits) return std::nullopt;
        digits = 10 * digits + (c - '0');
        if (fraction) scale *= 10;
      } else if (c == '.' && !fraction && IsDigit(Peek(1))) {
        fraction = decimal_ = true;
      } else if (c == ',' && !fraction && pos_ > begin && pos_ - begin <= 3 + 4 * (count / 4)) {
        if (!(IsDigit(Peek(1)) && IsDigit(Peek(2)) && IsDigit(Peek(3)) && !IsDigit(Peek(4))))
          return std::nullopt;
      } else {
        break;
      }
      ++pos_;
    }
    if (count == 0) return std::nullopt;
    if (Peek() == ' ' && IsDigit(Peek(1))) return std::nullopt;  // "1 234" or "1 1/2"
    Value value = Divide(MathValue::Whole(digits), MathValue::Whole(scale));
    // 3\frac{1}{2} is a mixed number.
    if (!fraction && value.has_value()) {
      const size_t before = pos_;
      Skip();
      if (text_.substr(pos_).starts_with("\\frac")) {
        const Value part = Atom();
        if (!part.has_value() || !part->AsRational().has_value()) return std::nullopt;
        return Add(*value, *part);
      }
      pos_ = before;
    }
    return value;
  }

  // A braced argument, or one digit or letter.
  Value Argument() {
    Skip();
    if (IsDigit(Peek())) return MathValue::Whole(text_[pos_++] - '0');
    if (Peek() == '{') return Group('}');
    return std::nullopt;
  }

  Value Group(char close) {
    ++pos_;
    Value inside = Sum();
    Skip();
    if (!inside.has_value() || Peek() != close) return std::nullopt;
    ++pos_;
    return inside;
  }

  Value Atom() {
    if (Peek() == '(') return Group(')');
    if (Peek() == '{') return Group('}');
    if (Take("\\frac")) {
      const Value top = Argument();
      const Value bottom = top.has_value() ? Argument() : std::nullopt;
      return bottom.has_value() ? Divide(*top, *bottom) : std::nullopt;
    }
    if (Take("\\sqrt")) {
      const Value inside = Argument();
      return inside.has_value() ? SquareRoot(*inside) : std::nullopt;
    }
    if (text_.substr(pos_).starts_with("\\pi") && !IsLetter(Peek(3))) {
      pos_ += 3;
      return MathValue::Pi();
    }
    if (!IsLetter(Peek())) return std::nullopt;
    size_t length = 1;
    while (IsLetter(Peek(length))) ++length;
    const std::string_view run = text_.substr(pos_, length);
    if (length > 3) return std::nullopt;
    for (const std::string_view function : kFunctions) {
      if (run == function) return std::nullopt;
    }
    const char letter = text_[pos_++];
    if (letter == 'e' || letter == 'i' || letter == 'd' || letter == 'E' || letter == 'I')
      return std::nullopt;
    if (Peek() == '_' || Peek() == '\'') return std::nullopt;
    return MathValue::Letter(letter);
  }

  bool AtUnit() const {
    const std::string_view rest = text_.substr(pos_);
    return rest.starts_with("\\text") || rest.starts_with("\\mathrm");
  }

  // A unit in \text{} or \mathrm{}, perhaps squared; nothing is fine, too.
  bool Unit() {
    if (!AtUnit()) return true;
    const size_t open = text_.find('{', pos_);
    const size_t close = text_.find('}', pos_);
    if (open == std::string_view::npos || close == std::string_view::npos || close < open)
      return false;
    std::string_view unit = text_.substr(open + 1, close - open - 1);
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    while (unit.ends_with(' ') || unit.ends_with('.')) unit.remove_suffix(1);
    bool known = false;
    for (const std::string_view one : kUnits) known = known || unit == one;
    if (!known) return false;
    pos_ = close + 1;
    for (const std::string_view power : {std::string_view("^2"), std::string_view("^{2}"),
                                         std::string_view("^3"), std::string_view("^{3}")}) {
      if (Take(power)) break;
    }
    return true;
  }

  const std::string_view text_;
  size_t pos_ = 0;
  int depth_ = 0;
  bool decimal_ = false;
  bool after_slash_ = false;
};

}  // namespace

std::string SimplifyLatex(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    bool replaced = false;
    for (const auto& [from, to] : kLooks) {
      if (!text.substr(i).starts_with(from)) continue;
      // \left is not the beginning of \leftarrow.
      const bool word = from.size() > 2 && from[0] == '\\' && IsLetter(from.back());
      if (word && i + from.size() < text.size() && IsLetter(text[i + from.size()])) continue;
      out += to;
      i += from.size();
      replaced = true;
      break;
    }
    if (!replaced) out += text[i++];
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  const size_t first = out.find_first_not_of(' ');
  return first == std::string::npos ? "" : out.substr(first);
}

std::optional<MathExpression> ParseMathExpression(std::string_view text) {
  return Parser(WithoutPlainUnit(text)).Parse();
}

}  // namespace rft
