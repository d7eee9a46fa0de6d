// Values of the template language: Python's, as far as templates see them. Immutable but for namespaces.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace redline::jinja {

/// What a template did wrong; the interpreter adds the line.
struct Failure {
  std::string message;
};
[[noreturn]] inline void fail(std::string message) { throw Failure{std::move(message)}; }

/// What a rendering may still spend: each spending throws Failure when it is over.
struct Budget {
  std::int64_t steps;
  std::int64_t bytes;  // of text and list elements made, output included
  int depth;           // nested evaluations

  void spend_steps(std::size_t n) {
    if ((steps -= static_cast<std::int64_t>(n)) < 0) fail("the template takes too many steps");
  }
  void spend_bytes(std::size_t n) {
    if (n > static_cast<std::size_t>(bytes)) fail("the template makes too much text");
    bytes -= static_cast<std::int64_t>(n);
  }
};

/// One level of nesting, for as long as it lives.
class Nesting {
 public:
  explicit Nesting(Budget& budget) : budget_(budget) {
    if (budget_.depth == 0) fail("the template nests too deeply");
    --budget_.depth;
  }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  ~Nesting() { ++budget_.depth; }

 private:
  Budget& budget_;
};

class Value;
struct Arguments;
using Values = std::vector<Value>;
using Named = std::vector<std::pair<std::string, Value>>;
using Entries = std::vector<std::pair<Value, Value>>;

struct Undefined {
  std::string why;  // "'x' is undefined": what using it will say
};
struct None {};

struct Sequence {
  enum class Kind : std::uint8_t { kList, kTuple, kView, kGenerator };
  Kind kind;
  Values items;
  int height;                        // 1 + the highest item's
  mutable std::size_t consumed = 0;  // a generator's items that were taken
};

/// A dict. Keys are what Python hashes: texts, numbers (1, 1.0 and true are one key), None, tuples of such.
struct Mapping {
  /// Throws Failure on a key of another type.
  explicit Mapping(Entries entries);
  /// Null where there is none. The second throws Failure on a key of another type.
  const Value* find(std::string_view key) const;
  const Value* find_key(const Value& key) const;

  Entries items;  // in order of insertion, each key once, the last value
  int height = 1;

 private:
  std::unordered_map<std::string_view, std::size_t> texts_;
  std::unordered_map<std::string, std::size_t> others_;
};

/// `loop` in a for.
struct Loop {
  std::shared_ptr<const Sequence> items;
  std::size_t index0 = 0;
  std::shared_ptr<Values> last_changed;
};

struct Function {
  std::string name;
  std::function<Value(Arguments&)> call;
};

/// Mutable; owned by the interpreter, so that one that holds itself does not leak.
using Namespace = std::map<std::string, Value, std::less<>>;

class Value {
 public:
  using Text = std::shared_ptr<const std::string>;
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, Text,
                            std::shared_ptr<const Sequence>, std::shared_ptr<const Mapping>, Namespace*,
                            std::shared_ptr<const Function>, std::shared_ptr<Loop>>;

  Value() : data_(None{}) {}
  Value(Undefined v) : data_(std::move(v)) {}
  Value(bool v) : data_(v) {}
  Value(std::int64_t v) : data_(v) {}
  Value(int v) : data_(std::int64_t{v}) {}
  Value(std::size_t v) : data_(static_cast<std::int64_t>(v)) {}
  Value(double v) : data_(v) {}
  Value(std::string v) : data_(std::make_shared<const std::string>(std::move(v))) {}
  Value(std::string_view v) : Value(std::string(v)) {}
  Value(const char* v) : Value(std::string(v)) {}
  Value(Entries v);
  Value(Namespace* v) : data_(v) {}
  Value(Function v) : data_(std::make_shared<const Function>(std::move(v))) {}
  Value(std::shared_ptr<Loop> v) : data_(std::move(v)) {}
  static Value list(Values items) { return sequence(Sequence::Kind::kList, std::move(items)); }
  static Value tuple(Values items) { return sequence(Sequence::Kind::kTuple, std::move(items)); }
  static Value sequence(Sequence::Kind kind, Values items);
  /// Throws Failure on nesting beyond kMaxHeight.
  static Value from_json(const nlohmann::ordered_json& json, int height = 1);

  static constexpr int kMaxHeight = 200;

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(data_);
  }
  const std::string* text() const { return pointee<Text>(); }
  const Sequence* seq() const { return pointee<std::shared_ptr<const Sequence>>(); }
  const Mapping* map() const { return pointee<std::shared_ptr<const Mapping>>(); }
  const Function* function() const { return pointee<std::shared_ptr<const Function>>(); }
  Loop* loop() const { return pointee<std::shared_ptr<Loop>>(); }
  Namespace* ns() const { return is<Namespace*>() ? std::get<Namespace*>(data_) : nullptr; }
  const Data& data() const { return data_; }
  int height() const { return seq() ? seq()->height : map() ? map()->height : 0; }

  /// A text that `safe` or `escape` made: adding a plain one to it escapes that, as MarkupSafe does.
  bool safe() const { return safe_; }
  /// The same text, safe. Requires a text.
  Value as_safe() const {
    Value made = *this;
    made.safe_ = true;
    return made;
  }

  bool undefined() const { return is<Undefined>(); }
  bool none() const { return is<None>(); }
  /// Throws what an undefined value was looked up as; a no-op on others.
  void require_defined() const {
    if (undefined()) fail(std::get<Undefined>(data_).why);
  }
  bool truth() const;
  /// A bool counts as an integer, as in Python.
  bool is_integer() const { return is<bool>() || is<std::int64_t>(); }
  bool is_number() const { return is_integer() || is<double>(); }
  /// Requires is_integer() or is_number(); throws Failure, naming `what`, otherwise.
  std::int64_t integer(const char* what) const;
  double number(const char* what) const;
  /// Python's name of the type ("str", "list", ...).
  const char* type_name() const;

 private:
  template <typename P>
  auto pointee() const -> decltype(std::declval<P>().get()) {
    const P* pointer = std::get_if<P>(&data_);
    return pointer ? pointer->get() : nullptr;
  }
  Data data_;
  bool safe_ = false;
};

/// Positional and named arguments of a call to `name`.
struct Arguments {
  explicit Arguments(std::string_view callee, Values positional = {}, Named by_name = {})
      : name(callee), values(std::move(positional)), named(std::move(by_name)) {}

  std::string_view name;
  Values values;
  Named named;

  /// Parameter number `i`, which may be given by name: null where it is absent. Each call takes it away, so
  /// that finish() finds what nobody asked for.
  const Value* find(std::size_t i, std::string_view parameter);
  const Value* find_named(std::string_view parameter);
  const Value& require(std::size_t i, std::string_view parameter);
  Value get(std::size_t i, std::string_view parameter, Value otherwise);
  /// Throws on arguments beyond those looked for.
  void finish() const;

 private:
  std::size_t num_taken_ = 0;
  std::size_t num_named_taken_ = 0;
};

/// str(value) and repr(value).
std::string to_text(const Value& value, Budget& budget);
std::string to_repr(const Value& value, Budget& budget);

/// Python's == and <. less() throws on what Python does not order.
bool equal(const Value& a, const Value& b, Budget& budget);
bool less(const Value& a, const Value& b, Budget& budget);
/// `item in container`.
bool contains(const Value& container, const Value& item, Budget& budget);

/// The items that iterating gives: a sequence's, a text's characters, a mapping's keys; none of undefined.
/// A generator gives them once.
Values iterate(const Value& value, Budget& budget);
/// len(value); throws where Python has none.
std::size_t length(const Value& value);

/// Python's repr of a float: "1.0", "1e+16", "nan".
std::string float_repr(double value);

}  // namespace redline::jinja
