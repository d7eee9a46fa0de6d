#include "engine/constraint/constraint.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/constraint/gbnf.h"
#include "tests/engine/slow_matcher.h"

namespace redline {
namespace {

using Clock = std::chrono::steady_clock;

Clock::time_point soon() { return Clock::now() + std::chrono::seconds(20); }

std::shared_ptr<const ConstraintVocabulary> vocabulary_of(std::vector<std::string> texts) {
  return std::make_shared<ConstraintVocabulary>(texts);
}

std::shared_ptr<const ConstraintVocabulary> bytes_vocabulary() {
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  return vocabulary_of(texts);
}

std::shared_ptr<Constraint> compiled(
    std::string_view gbnf, std::shared_ptr<const ConstraintVocabulary> vocabulary = bytes_vocabulary()) {
  return std::make_shared<Constraint>(parse_gbnf(gbnf), std::move(vocabulary), soon());
}

/// Whether `text` is in the grammar; `viable` gets the length of its longest prefix that begins a text in it.
bool takes(std::string_view gbnf, std::string_view text, std::size_t* viable = nullptr) {
  Matcher matcher(compiled(gbnf));
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (viable) *viable = i;
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool allowed = matcher.allowed()->has(byte);
    EXPECT_EQ(matcher.advance(byte), allowed) << gbnf << " at " << i << " of " << text;
    if (!allowed) return false;
  }
  if (viable) *viable = text.size();
  return matcher.may_end();
}

std::string refusal(std::string_view gbnf) {
  try {
    compiled(gbnf);
  } catch (const GrammarError& error) {
    return error.what();
  }
  return "";
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

TEST(Gbnf, LiteralsClassesAndEscapesReadAsWritten) {
  EXPECT_TRUE(takes(R"(root ::= "a\n\"\\\x41\u00e9\U0001F600")", "a\n\"\\A\u00e9\U0001F600"));
  EXPECT_TRUE(takes("root ::= [a-c] [^a-c] [-x] [\\]\\n]", "bz-]"));
  EXPECT_FALSE(takes("root ::= [a-c] [^a-c]", "bb"));
  EXPECT_TRUE(takes("root ::= [^\"]", "\u4f60"));
  EXPECT_FALSE(takes("root ::= [^\u4f60]", "\u4f60"));
  EXPECT_TRUE(takes("root ::= [^\u4f60]", "\u4f61"));
  EXPECT_TRUE(takes("root ::= .+", "a\n\U0010FFFF"));
  EXPECT_FALSE(takes("root ::= .+", "\xC0\x80"));
  EXPECT_FALSE(takes("root ::= .+", "\xED\xA0\x80"));
  EXPECT_TRUE(takes("root ::= \"\"", ""));
  EXPECT_FALSE(takes("root ::= \"\"", "a"));
}

TEST(Gbnf, RepetitionsTakeExactlyWhatTheySay) {
  const std::pair<const char*, std::pair<std::size_t, std::size_t>> kCases[] = {
      {"*", {0, 99}},    {"+", {1, 99}},    {"?", {0, 1}},     {"{3}", {3, 3}},
      {"{2,}", {2, 99}}, {"{2,4}", {2, 4}}, {"{0,2}", {0, 2}}, {"{0}", {0, 0}}};
  for (const auto& [sign, limits] : kCases)
    for (const char* part : {"\"ab\"", "(\"a\" \"b\")", "ab"})
      for (std::size_t times = 0; times < 7; ++times)
        EXPECT_EQ(takes("root ::= \"<\" " + std::string(part) + sign + " \">\"\nab ::= \"a\" [b]",
                        "<" + repeated("ab", times) + ">"),
                  times >= limits.first && times <= limits.second)
            << part << sign << times;
}

TEST(Gbnf, RulesGroupsCommentsAndLineBreaksReadAsInLlamaCpp) {
  const char* kArithmetic = R"G(# arithmetic
root  ::= (expr "=" ws term "\n")+   # a comment
expr  ::= term ([-+*/] term)*
term  ::= ident | num |
          "(" ws expr
          ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
)G";
  // Between rules only: a group may break its line, a bare sequence not.
  EXPECT_NE(refusal(kArithmetic).find("line 6"), std::string::npos) << refusal(kArithmetic);
  std::string fixed = kArithmetic;
  fixed.replace(fixed.find("expr\n"), 5, "expr ");
  EXPECT_TRUE(takes(fixed, "x +(3*yy2 )=1\n(1)= z\n\n"));
  EXPECT_FALSE(takes(fixed, "x +(3*yy2 =1\n"));
  EXPECT_TRUE(takes("root ::= \"a\"\n  | \"b\"\n\n", "b"));
}

TEST(Gbnf, RecursionNestsAndTailCallsDoNotGrow) {
  const char* kBrackets = R"(root ::= "[" (root ("," root)*)? "]")";
  EXPECT_TRUE(takes(kBrackets, "[[],[[],[]]]"));
  EXPECT_FALSE(takes(kBrackets, "[[],[[],[]]"));
  EXPECT_TRUE(takes(kBrackets, repeated("[", 400) + repeated("]", 400)));
  std::size_t viable = 0;
  EXPECT_FALSE(takes(kBrackets, repeated("[", 4000), &viable));
  EXPECT_GE(viable, Pushdown::kMaxDepth);  // deeper nesting cannot begin
  EXPECT_LE(viable, Pushdown::kMaxDepth + 2);
  EXPECT_TRUE(takes("root ::= \"a\" root | \"b\"", repeated("a", 5000) + "b"));
}

TEST(Gbnf, ErrorsNameLineAndColumn) {
  const std::pair<const char*, const char*> kCases[] = {
      {"root ::= \"a\n", "line 2, column 1: the text ends"},
      {"root ::= [a\\q]", "line 1, column 13: an unknown escape"},
      {"root = x", "line 1, column 6: expected ::="},
      {"root ::= \"a\"\nx ::= )", "line 2, column 7: expected the end of the rule"},
      {"root ::= (\"a\"", "line 1, column 14: expected )"},
      {"root ::= foo", "line 1, column 10: there is no rule foo"},
      {"foo ::= \"a\"", "line 1, column 1: there is no rule root"},
      {"", "line 1, column 1: there is no rule root"},
      {"root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: the rule root is defined twice"},
      {"root ::= [z-a]", "line 1, column 14: a range's end"},
      {"root ::= \"\\ud800\"", "line 1, column 17: that is no Unicode character"},
      {"root ::= \"a\"{2,1}", "a repetition of at least 2"},
      {"root ::= \"\xff\"", "line 1, column 11: invalid UTF-8"},
  };
  for (const auto& [gbnf, message] : kCases)
    EXPECT_NE(refusal(gbnf).find(message), std::string::npos) << gbnf << "\n" << refusal(gbnf);
}

TEST(Gbnf, LeftRecursionIsRefusedByName) {
  EXPECT_EQ(refusal("root ::= root \"a\" | \"b\""), "left recursion: root -> root");
  EXPECT_EQ(refusal("root ::= \"x\" a\na ::= b* c\nb ::= \"b\"\nc ::= \"\" a \"c\""),
            "left recursion: a -> c -> a");
  EXPECT_NE(refusal("root ::= (\"\" | root)* \"a\"").find("left recursion"), std::string::npos);
  EXPECT_EQ(refusal("root ::= \"a\" root | \"b\""), "");
}

TEST(Gbnf, GrammarsWithoutAnyTextAreRefused) {
  EXPECT_EQ(refusal("root ::= \"a\" root"), "no text satisfies the grammar");
  EXPECT_EQ(refusal("root ::= [^\\x00-\\U0010FFFF]"), "no text satisfies the grammar");
}

TEST(Gbnf, DeadEndsAreNotEntered) {
  // "ab" begins no text: never ends.
  std::size_t viable = 0;
  EXPECT_FALSE(takes("root ::= \"a\" (\"b\" never | \"c\")\nnever ::= \"x\" never", "ab", &viable));
  EXPECT_EQ(viable, 1u);
  EXPECT_TRUE(takes("root ::= \"a\" (\"b\" never | \"c\")\nnever ::= \"x\" never", "ac"));
}

TEST(Gbnf, BombsAreRefusedOrHarmless) {
  const auto start = Clock::now();
  for (const std::string& bomb : std::vector<std::string>{
           "root ::= " + repeated("(", 1'000'000),
           "root ::= " + repeated("(", 90) + "\"a\"" + repeated("){99}", 90),
           std::string("root ::= \"a\"{1,1000000}"), "root ::= \"a\"" + repeated("*", 1'000'000),
           "root ::= \"a\"" + repeated("?", 1'000'00), "root ::= " + repeated("\"a\" | ", 900'000) + "\"b\"",
           "root ::= ((((((\"a\"{0,999}){0,999}){0,999}){0,999}){0,999}){0,999}",
           std::string("root ::= ((\"\"{0,99999}){0,99999}){0,99999}"),
           std::string("root ::= ((\"a\"?){0,60000}){0,60000}"),
           "root ::= \"" + repeated("x", 5'000'000) + "\"",
           "root ::= [" + repeated("a-z", 1'000'00) + "]{90000}", repeated("[", 1'000'000),
           std::string(1'000'000, '\0')}) {
    const std::string message = refusal(bomb);
    EXPECT_LT(message.size(), 300u);
    if (bomb.find("9}") == bomb.npos && bomb.find("{9") == bomb.npos) {  // these share machines
      EXPECT_NE(message, "") << bomb.substr(0, 60);
    }
  }
  std::string chain = "root ::= r0\n";  // a rule each
  for (int i = 0; i < 30000; ++i)
    chain += "r" + std::to_string(i) + " ::= \"\" | r" + std::to_string(i + 1) + "\n";
  chain += "r30000 ::= \"x\"\n";
  refusal(chain);
  EXPECT_LT(Clock::now() - start, std::chrono::minutes(2));  // no bound on speed: it ends at all
}

TEST(Constraint, AmbiguityDoesNotMultiplyWays) {
  // 2^40 derivations of the text.
  const auto constraint = compiled("root ::= \"a\" root \"x\" | \"a\" root [xy] | \"a\" root \"y\" | \"z\"");
  Matcher matcher(constraint);
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(matcher.advance('a'));
  ASSERT_TRUE(matcher.advance('z'));
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(matcher.advance(i % 2 ? 'x' : 'y'));
  EXPECT_TRUE(matcher.complete());
  EXPECT_FALSE(matcher.advance('x'));
}

TEST(Constraint, WorkWithoutEndIsAnErrorNotAHang) {
  // Which of the last n characters were a's counts: up to n ways at a time, 2^n places.
  const auto constraint = compiled("root ::= [ab]* \"a\" [ab]{90000}");
  Matcher matcher(constraint);
  std::mt19937 random(1);
  const auto go_on = [&] {
    for (int i = 0; i < 90000; ++i) {
      matcher.allowed();
      ASSERT_TRUE(matcher.advance(random() % 32 ? 'a' : 'b'));
    }
  };
  EXPECT_THROW(go_on(), ConstraintError);
}

// A grammar whose rules all end, so that what begins a text can always be completed.
struct RandomGrammar {
  explicit RandomGrammar(unsigned seed) : random(seed) {
    const auto num_rules = 1 + random() % 4;
    for (unsigned i = 0; i < num_rules; ++i) grammar.add_rule("r" + std::to_string(i));
    for (unsigned i = 0; i < num_rules; ++i)
      grammar.define(i, grammar.choice({expression(4), grammar.bytes(i % 2 ? "b" : "\u00e9a")}));
  }
  Grammar::Expression expression(int depth) {
    const auto part = [&] { return expression(depth - 1); };
    switch (random() % (depth > 0 ? 9 : 3)) {
      case 0:
      case 1: {
        const char* kTexts[] = {"a", "b", "ab", "\u00e9", "ba\u00ea", "", "aab"};
        return grammar.bytes(kTexts[random() % 7]);
      }
      case 2: {
        const CodePointRange kRanges[] = {
            {'a', 'b'}, {'b', 'b'}, {0xE0, 0xEA}, {0x80, 0x7FF}, {'b', 0x10FFFF}};
        return grammar.characters({kRanges[random() % 5], kRanges[random() % 5]});
      }
      case 3:
      case 4:
        return grammar.sequence({part(), part(), part()});
      case 5:
        return grammar.choice({part(), part()});
      case 6:
      case 7: {
        const auto min = static_cast<std::uint32_t>(random() % 3);
        return grammar.repeat(
            part(), min, random() % 2 ? Grammar::kUnbounded : min + static_cast<std::uint32_t>(random() % 3));
      }
      default:
        return grammar.call(static_cast<Grammar::Rule>(random() % grammar.num_rules()));
    }
  }
  std::mt19937 random;
  Grammar grammar;
};

TEST(Constraint, MasksAreThoseOfASlowMatcherOnRandomGrammars) {
  std::vector<std::string> texts = {"",  "a",     "b", "\xC3", "\xA9", "\u00e9", "\xC3\xAA", "\u00e9\u00e9",
                                    "c", "\u4f60"};
  for (const char* first : {"a", "b", "\u00e9"})
    for (const char* second : {"a", "b", "\xC3"})
      for (const char* third : {"", "a", "ab", "ba", "\u00e9"})
        texts.push_back(std::string(first) + second + third);
  const auto vocabulary = vocabulary_of(texts);
  int num_compiled = 0, num_masks = 0;
  for (unsigned seed = 1; seed <= 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomGrammar made(seed);
    std::shared_ptr<Constraint> constraint;
    try {
      constraint = std::make_shared<Constraint>(made.grammar, vocabulary, soon());
    } catch (const GrammarError& error) {
      ASSERT_NE(std::string(error.what()).find("left recursion"), std::string::npos) << error.what();
      continue;
    }
    ++num_compiled;
    Matcher matcher(constraint);
    SlowMatcher slow(made.grammar);
    std::mt19937 random(seed);
    for (int step = 0; step < 12 && slow.num_ways() < 200; ++step) {
      ++num_masks;
      ASSERT_EQ(matcher.may_end(), slow.may_end());
      std::vector<TokenId> allowed;
      const auto mask = matcher.allowed();
      for (TokenId id = 0; id < std::ssize(texts); ++id) {
        SlowMatcher next = slow;
        const std::string& text = texts[static_cast<std::size_t>(id)];
        const bool fits = !text.empty() && next.advance(text);
        ASSERT_EQ(mask->has(id), fits) << "token " << text << " at step " << step;
        if (fits) allowed.push_back(id);
      }
      if (allowed.empty()) break;
      const TokenId taken = allowed[random() % allowed.size()];
      ASSERT_TRUE(matcher.advance(taken));
      ASSERT_TRUE(slow.advance(texts[static_cast<std::size_t>(taken)]));
    }
  }
  EXPECT_GT(num_compiled, 200);
  EXPECT_GT(num_masks, 1000);
}

TEST(Constraint, SpecialTokensNeverMatchAsText) {
  // Of a vocabulary of texts none is special: a name is spelled.
  EXPECT_TRUE(takes("root ::= <tool> \"x\"", "<tool>x"));
}

TEST(Constraint, PlacesMoveToNewTablesWithoutLosingAnything) {
  // Many constraints leave each little room; long nesting needs more than that.
  const auto vocabulary = bytes_vocabulary();
  std::vector<std::shared_ptr<Constraint>> others;
  for (int i = 0; i < 300; ++i)
    others.push_back(std::make_shared<Constraint>(parse_gbnf("root ::= \"a\""), vocabulary, soon()));
  const auto constraint = std::make_shared<Constraint>(parse_gbnf(R"(root ::= value+
value ::= "[" (value ("," value)*)? "]" | "{" (value ("," value)*)? "}" | "<" value ">")"),
                                                       vocabulary, soon());
  std::mt19937 random(5);
  Matcher first(constraint), second(constraint);
  std::string open;
  for (int i = 0; i < 30000; ++i) {
    const auto mask = second.allowed();
    std::string choices;
    const bool closes = open.size() > 300 || (open.size() > 1 && random() % 2 == 0);
    if (closes && mask->has(open.back())) choices = open.back();
    if (choices.empty() && open.size() > 1 && mask->has(',')) choices = ",";
    for (const char byte : std::string("[{<>"))
      if (choices.size() != 1 && mask->has(byte)) choices += byte;
    if (choices.empty()) choices = open.back();
    const char byte = choices[choices.size() == 1 ? 0 : random() % choices.size()];
    if (!open.empty() && byte == open.back()) {
      open.pop_back();
    } else if (byte != ',') {
      open.push_back(byte == '[' ? ']' : byte == '{' ? '}' : '>');
    }
    first.allowed();
    ASSERT_TRUE(first.advance(byte)) << i;
    ASSERT_TRUE(second.advance(byte)) << i;
    ASSERT_EQ(first.allowed()->words().size(), 4u);
    ASSERT_TRUE(std::ranges::equal(first.allowed()->words(), second.allowed()->words()));
  }
}

}  // namespace
}  // namespace redline
