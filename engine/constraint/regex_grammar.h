// Regular expressions as grammar expressions.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "engine/constraint/grammar.h"

namespace redline {

enum class RegexMatches { kWhole, kSomewhere };

/// The texts that `pattern` matches: as a whole, or somewhere in them, as JSON schemas mean it (then ^ and $
/// at the ends of its outermost alternatives hold it to the text's ends). ECMAScript's syntax without what is
/// not regular or looks around: characters, escapes, . \d \w \s and their opposites, classes, groups, |, * +
/// ? {m,n} and their lazy forms. `characters(ranges)`: how one character of these is written. Throws
/// GrammarError with the place in the pattern.
Grammar::Expression regex_expression(
    Grammar& grammar, std::string_view pattern, RegexMatches matches,
    const std::function<Grammar::Expression(const std::vector<CodePointRange>&)>& characters);

}  // namespace redline
