#include "graders/math_value.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace rft {
namespace {

using Wide = __int128;
constexpr size_t kMaxTerms = 64;
constexpr size_t kMaxDegree = 32;
constexpr int64_t kMaxRadicand = int64_t{1} << 30;

std::optional<Rational> Reduced(Wide numerator, Wide denominator) {
  if (denominator == 0) return std::nullopt;
  Wide a = numerator < 0 ? -numerator : numerator, b = denominator < 0 ? -denominator : denominator;
  while (b != 0) std::swap(a %= b, b);
  if (denominator < 0) a = -a;
  if (a != 0) numerator /= a, denominator /= a;
  constexpr Wide kMax = INT64_MAX;
  if (numerator > kMax || numerator < -kMax || denominator > kMax) return std::nullopt;
  return Rational{static_cast<int64_t>(numerator), static_cast<int64_t>(denominator)};
}

std::optional<Rational> Plus(const Rational& a, const Rational& b) {
  // Each product is below 2^126, their sum below 2^127.
  return Reduced(Wide{a.numerator} * b.denominator + Wide{b.numerator} * a.denominator,
                 Wide{a.denominator} * b.denominator);
}

std::optional<Rational> Times(const Rational& a, const Rational& b) {
  return Reduced(Wide{a.numerator} * b.numerator, Wide{a.denominator} * b.denominator);
}

// n = square^2 * rest, rest squarefree.
std::optional<std::pair<int64_t, int64_t>> SplitSquare(int64_t n) {
  if (n <= 0 || n > kMaxRadicand) return std::nullopt;
  int64_t square = 1, rest = 1;
  for (int64_t p = 2; p * p <= n; ++p) {
    int power = 0;
    while (n % p == 0) n /= p, ++power;
    for (int i = 0; i < power / 2; ++i) square *= p;
    if (power % 2 == 1) rest *= p;
  }
  return std::pair(square, rest * n);
}

bool AddTerm(const Monomial& monomial, const Rational& coefficient, MathValue::Sum* sum) {
  const auto [at, is_new] = sum->try_emplace(monomial, coefficient);
  if (!is_new) {
    const std::optional<Rational> total = Plus(at->second, coefficient);
    if (!total.has_value()) return false;
    at->second = *total;
  }
  if (at->second.numerator == 0) sum->erase(at);
  return sum->size() <= kMaxTerms;
}

std::optional<MathValue::Sum> Product(const MathValue::Sum& a, const MathValue::Sum& b) {
  MathValue::Sum product;
  for (const auto& [x, x_coefficient] : a) {
    for (const auto& [y, y_coefficient] : b) {
      std::optional<Rational> coefficient = Times(x_coefficient, y_coefficient);
      // sqrt(x) sqrt(y) = common sqrt(x y / common^2); both are squarefree.
      const int64_t common = std::gcd(x.radicand, y.radicand);
      if (coefficient.has_value()) coefficient = Times(*coefficient, Rational{common, 1});
      const Wide radicand = Wide{x.radicand / common} * (y.radicand / common);
      if (!coefficient.has_value() || radicand > kMaxRadicand) return std::nullopt;
      Monomial monomial{static_cast<int64_t>(radicand), x.pi_power + y.pi_power, ""};
      if (x.letters.size() + y.letters.size() > kMaxDegree ||
          monomial.pi_power > static_cast<int>(kMaxDegree))
        return std::nullopt;
      std::merge(x.letters.begin(), x.letters.end(), y.letters.begin(), y.letters.end(),
                 std::back_inserter(monomial.letters));
      if (!AddTerm(monomial, *coefficient, &product)) return std::nullopt;
    }
  }
  return product;
}

std::optional<double> Number(const MathValue::Sum& sum) {
  double total = 0;
  for (const auto& [monomial, coefficient] : sum) {
    if (!monomial.letters.empty()) return std::nullopt;
    total += static_cast<double>(coefficient.numerator) /
             static_cast<double>(coefficient.denominator) *
             std::sqrt(static_cast<double>(monomial.radicand)) *
             std::pow(std::numbers::pi, monomial.pi_power);
  }
  return total;
}

std::optional<Rational> Constant(const MathValue::Sum& sum) {
  if (sum.empty()) return Rational{0, 1};
  if (sum.size() != 1 || sum.begin()->first != Monomial()) return std::nullopt;
  return sum.begin()->second;
}

}  // namespace

MathValue MathValue::Whole(int64_t value) {
  MathValue result;
  if (value != 0) result.numerator_[Monomial()] = Rational{value, 1};
  return result;
}

MathValue MathValue::Letter(char letter) {
  MathValue result;
  result.numerator_[Monomial{1, 0, std::string(1, letter)}] = Rational{1, 1};
  return result;
}

MathValue MathValue::Pi() {
  MathValue result;
  result.numerator_[Monomial{1, 1, ""}] = Rational{1, 1};
  return result;
}

std::optional<MathValue> Add(const MathValue& a, const MathValue& b) {
  MathValue sum;
  if (a.denominator_ == b.denominator_) {
    sum = a;
    for (const auto& [monomial, coefficient] : b.numerator_) {
      if (!AddTerm(monomial, coefficient, &sum.numerator_)) return std::nullopt;
    }
    return sum;
  }
  const auto left = Product(a.numerator_, b.denominator_);
  const auto right = Product(b.numerator_, a.denominator_);
  auto denominator = Product(a.denominator_, b.denominator_);
  if (!left.has_value() || !right.has_value() || !denominator.has_value()) return std::nullopt;
  sum.numerator_ = *left;
  sum.denominator_ = *std::move(denominator);
  for (const auto& [monomial, coefficient] : *right) {
    if (!AddTerm(monomial, coefficient, &sum.numerator_)) return std::nullopt;
  }
  return sum;
}

std::optional<MathValue> Multiply(const MathValue& a, const MathValue& b) {
  auto numerator = Product(a.numerator_, b.numerator_);
  auto denominator = Product(a.denominator_, b.denominator_);
  if (!numerator.has_value() || !denominator.has_value()) return std::nullopt;
  MathValue product;
  product.numerator_ = *std::move(numerator);
  product.denominator_ = *std::move(denominator);
  return product;
}

std::optional<MathValue> Divide(const MathValue& a, const MathValue& b) {
  if (b.numerator_.empty()) return std::nullopt;
  MathValue inverse;
  inverse.numerator_ = b.denominator_;
  inverse.denominator_ = b.numerator_;
  return Multiply(a, inverse);
}

std::optional<MathValue> Power(const MathValue& a, int exponent) {
  if (exponent < -static_cast<int>(kMaxDegree) * 2 || exponent > static_cast<int>(kMaxDegree) * 2)
    return std::nullopt;
  std::optional<MathValue> power = MathValue::Whole(1);
  if (a.numerator_.empty() && exponent <= 0) return std::nullopt;
  for (int i = 0; i < std::abs(exponent) && power.has_value(); ++i) power = Multiply(*power, a);
  if (exponent < 0 && power.has_value()) power = Divide(MathValue::Whole(1), *power);
  return power;
}

std::optional<MathValue> SquareRoot(const MathValue& a) {
  const std::optional<Rational> value = a.AsRational();
  if (!value.has_value() || value->numerator < 0) return std::nullopt;
  if (value->numerator == 0) return MathValue();
  // sqrt(p / q) = sqrt(p q) / q
  const Wide product = Wide{value->numerator} * value->denominator;
  if (product > kMaxRadicand) return std::nullopt;
  const auto split = SplitSquare(static_cast<int64_t>(product));
  if (!split.has_value()) return std::nullopt;
  const std::optional<Rational> outside = Reduced(split->first, value->denominator);
  if (!outside.has_value()) return std::nullopt;
  MathValue root;
  root.numerator_[Monomial{split->second, 0, ""}] = *outside;
  return root;
}

std::optional<bool> Equal(const MathValue& a, const MathValue& b) {
  const auto left = Product(a.numerator_, b.denominator_);
  const auto right = Product(b.numerator_, a.denominator_);
  if (!left.has_value() || !right.has_value()) return std::nullopt;
  return *left == *right;
}

std::optional<Rational> MathValue::AsRational() const {
  const std::optional<Rational> numerator = Constant(numerator_);
  const std::optional<Rational> denominator = Constant(denominator_);
  if (!numerator.has_value() || !denominator.has_value()) return std::nullopt;
  return Reduced(Wide{numerator->numerator} * denominator->denominator,
                 Wide{numerator->denominator} * denominator->numerator);
}

std::optional<double> MathValue::AsNumber() const {
  const std::optional<double> numerator = Number(numerator_);
  const std::optional<double> denominator = Number(denominator_);
  if (!numerator.has_value() || !denominator.has_value() || *denominator == 0) return std::nullopt;
  return *numerator / *denominator;
}

std::string MathValue::Letters() const {
  std::string letters;
  for (const Sum* sum : {&numerator_, &denominator_}) {
    for (const auto& [monomial, coefficient] : *sum) letters += monomial.letters;
  }
  std::sort(letters.begin(), letters.end());
  letters.erase(std::unique(letters.begin(), letters.end()), letters.end());
  return letters;
}

}  // namespace rft
