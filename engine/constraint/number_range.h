// Decimal numbers between two bounds, as grammar expressions.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/constraint/grammar.h"

namespace redline {

/// A bound on a number: what is below (or above) it is out, and with `exclusive` it too.
struct NumberBound {
  double value = 0;
  bool exclusive = false;
};

/// Integers within the bounds, without leading zeros or -0; where one is missing, of at most 15 digits (or
/// one more than the other has). Magnitudes beyond 2^53 are left out; throws GrammarError where that leaves
/// none by itself. No text at all if no number is within.
Grammar::Expression integer_within(Grammar& grammar, std::optional<NumberBound> least,
                                   std::optional<NumberBound> most);
/// Numbers within the bounds, without exponent, with at most 6 digits after the point (more where a bound has
/// more).
Grammar::Expression number_within(Grammar& grammar, std::optional<NumberBound> least,
                                  std::optional<NumberBound> most);

}  // namespace redline
