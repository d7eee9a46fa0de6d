#include "engine/constraint/number_range.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace redline {
namespace {

using Expression = Grammar::Expression;

constexpr double kLargest = 9007199254740992;     // 2^53: up to here doubles are exact
constexpr double kFreeEnd = 999'999'999'999'999;  // where there is no bound
constexpr std::size_t kFractionDigits = 6;

// A bound on a magnitude, digit by digit; the fraction padded with zeros.
struct Digits {
  std::uint64_t whole = 0;
  std::string fraction;
  bool exclusive = false;
};

Expression digit_of(Grammar& grammar, int first, int last) {
  if (first > last) return grammar.choice({});
  return grammar.characters({{static_cast<char32_t>('0' + first), static_cast<char32_t>('0' + last)}});
}
Expression digits_of(Grammar& grammar, std::size_t min, std::size_t max) {
  return grammar.repeat(digit_of(grammar, 0, 9), static_cast<std::uint32_t>(min),
                        static_cast<std::uint32_t>(max));
}

// Digit strings from `low` to `high`, as long as each other. An open side has no bound.
Expression strings_within(Grammar& grammar, std::string_view low, std::string_view high, bool low_open,
                          bool high_open) {
  if (low.empty()) return grammar.empty();
  if (low_open && high_open) return digits_of(grammar, low.size(), low.size());
  const int first = low_open ? 0 : low[0] - '0', last = high_open ? 9 : high[0] - '0';
  const auto rest = [&](bool open_below, bool open_above) {
    return strings_within(grammar, low.substr(1), high.substr(1), open_below, open_above);
  };
  if (first == last && !low_open && !high_open)
    return grammar.sequence({digit_of(grammar, first, first), rest(false, false)});
  std::vector<Expression> ways;
  if (!low_open) ways.push_back(grammar.sequence({digit_of(grammar, first, first), rest(false, true)}));
  if (!high_open) ways.push_back(grammar.sequence({digit_of(grammar, last, last), rest(true, false)}));
  const int from = low_open ? first : first + 1, to = high_open ? last : last - 1;
  if (from <= to) ways.push_back(grammar.sequence({digit_of(grammar, from, to), rest(true, true)}));
  return grammar.choice(std::move(ways));
}

Expression whole_within(Grammar& grammar, std::uint64_t low, std::uint64_t high) {
  std::vector<Expression> ways;
  if (low > high) return grammar.choice({});
  const std::string lowest = std::to_string(low), highest = std::to_string(high);
  for (std::size_t length = lowest.size(); length <= highest.size(); ++length) {
    const std::string from = length == lowest.size() ? lowest : "1" + std::string(length - 1, '0');
    const std::string to = length == highest.size() ? highest : std::string(length, '9');
    ways.push_back(strings_within(grammar, from, to, false, false));
  }
  return grammar.choice(std::move(ways));
}

// What may follow the point, or come instead of it: fractions within bounds, missing digits being zeros.
class Fraction {
 public:
  Fraction(Grammar& grammar, const Digits* low, const Digits* high, std::size_t num_digits)
      : grammar_(grammar), low_(low), high_(high), num_digits_(num_digits) {}

  Expression build() {
    std::vector<Expression> ways = {grammar_.sequence({grammar_.bytes("."), more(0, low_, high_)})};
    if (may_end(0, low_, high_)) ways.push_back(grammar_.empty());
    return grammar_.choice(std::move(ways));
  }

 private:
  static bool zeros_from(const Digits& bound, std::size_t at) {
    return bound.fraction.find_first_not_of('0', at) == std::string::npos;
  }
  static bool may_end(std::size_t at, const Digits* low, const Digits* high) {
    return (!low || (zeros_from(*low, at) && !low->exclusive)) &&
           (!high || !zeros_from(*high, at) || !high->exclusive);
  }
  // At least one more digit, where the digits so far are those of the bounds that are given.
  Expression more(std::size_t at, const Digits* low, const Digits* high) {
    if (at == num_digits_) return grammar_.choice({});
    const int first = low ? low->fraction[at] - '0' : 0, last = high ? high->fraction[at] - '0' : 9;
    std::vector<Expression> ways;
    const auto way = [&](int from, int to, const Digits* next_low, const Digits* next_high) {
      if (from > to) return;
      ways.push_back(grammar_.sequence({digit_of(grammar_, from, to), after(at + 1, next_low, next_high)}));
    };
    if (low && high && first == last) {
      way(first, first, low, high);
    } else {
      if (low) way(first, first, low, nullptr);
      if (high) way(last, last, nullptr, high);
      way(low ? first + 1 : first, high ? last - 1 : last, nullptr, nullptr);
    }
    return grammar_.choice(std::move(ways));
  }
  Expression after(std::size_t at, const Digits* low, const Digits* high) {
    if (!low && !high) return digits_of(grammar_, 0, num_digits_ - at);
    std::vector<Expression> ways = {more(at, low, high)};
    if (may_end(at, low, high)) ways.push_back(grammar_.empty());
    return grammar_.choice(std::move(ways));
  }

  Grammar& grammar_;
  const Digits *low_, *high_;
  std::size_t num_digits_;
};

std::string fixed_text(double value) {
  char text[512];
  const auto end = std::to_chars(text, text + sizeof(text), value, std::chars_format::fixed).ptr;
  return std::string(text, end);
}

Digits digits_of(const NumberBound& bound) {
  const std::string text = fixed_text(std::fabs(bound.value));
  const std::size_t point = text.find('.');
  Digits digits;
  digits.whole = std::stoull(text.substr(0, point));
  if (point != text.npos) digits.fraction = text.substr(point + 1);
  digits.exclusive = bound.exclusive;
  return digits;
}

// Numbers at least `low` and at most `high`, neither negative.
Expression magnitude_within(Grammar& grammar, Digits low, Digits high) {
  const std::size_t num_digits = std::max({kFractionDigits, low.fraction.size(), high.fraction.size()});
  if (num_digits > 30) throw GrammarError("a bound has more than 30 digits after the point");
  low.fraction.resize(num_digits, '0'), high.fraction.resize(num_digits, '0');
  const auto with = [&](std::uint64_t from, std::uint64_t to, const Digits* least, const Digits* most) {
    return grammar.sequence(
        {whole_within(grammar, from, to), Fraction(grammar, least, most, num_digits).build()});
  };
  if (low.whole > high.whole) return grammar.choice({});
  if (low.whole == high.whole) {
    if (low.fraction > high.fraction) return grammar.choice({});
    return with(low.whole, low.whole, &low, &high);
  }
  std::vector<Expression> ways = {with(low.whole, low.whole, &low, nullptr),
                                  with(high.whole, high.whole, nullptr, &high)};
  if (high.whole - low.whole > 1) ways.push_back(with(low.whole + 1, high.whole - 1, nullptr, nullptr));
  return grammar.choice(std::move(ways));
}

// Positive and negative numbers separately, each by its magnitude; `magnitudes(low, high)` of bounds.
template <typename Magnitudes>
Expression both_signs(Grammar& grammar, const std::optional<NumberBound>& least,
                      const std::optional<NumberBound>& most, Magnitudes magnitudes) {
  if ((least && !(least->value <= kLargest)) || (most && !(most->value >= -kLargest)))
    throw GrammarError("numbers beyond 2^53 are not supported");
  const NumberBound zero{0, false}, above_zero{0, true};
  // The end away from zero: numbers beyond what is exact are left out.
  const auto far = [](const std::optional<NumberBound>& bound, const std::optional<NumberBound>& near) {
    if (bound) return std::fabs(bound->value) <= kLargest ? *bound : NumberBound{kLargest, false};
    return NumberBound{std::min(std::max(kFreeEnd, near ? std::fabs(near->value) * 10 : 0), kLargest), false};
  };
  std::vector<Expression> ways;
  if (!most || most->value >= 0)
    ways.push_back(magnitudes(least && least->value >= 0 ? *least : zero, far(most, least)));
  if (!least || least->value < 0)
    ways.push_back(grammar.sequence(
        {grammar.bytes("-"), magnitudes(most && most->value < 0 ? *most : above_zero, far(least, most))}));
  return grammar.choice(std::move(ways));
}

}  // namespace

Expression integer_within(Grammar& grammar, std::optional<NumberBound> least,
                          std::optional<NumberBound> most) {
  return both_signs(grammar, least, most, [&](const NumberBound& low, const NumberBound& high) {
    const double from = std::fabs(low.value), to = std::fabs(high.value);
    const double first = low.exclusive && std::floor(from) == from ? from + 1 : std::ceil(from);
    const double last = high.exclusive && std::floor(to) == to ? to - 1 : std::floor(to);
    if (first > last) return grammar.choice({});
    return whole_within(grammar, static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(last));
  });
}

Expression number_within(Grammar& grammar, std::optional<NumberBound> least,
                         std::optional<NumberBound> most) {
  return both_signs(grammar, least, most, [&](const NumberBound& low, const NumberBound& high) {
    return magnitude_within(grammar, digits_of(low), digits_of(high));
  });
}

}  // namespace redline
