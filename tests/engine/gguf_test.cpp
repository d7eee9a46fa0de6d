#include "engine/gguf.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "engine/model_file_error.h"
#include "tests/engine/model_files.h"

namespace redline {
namespace {

GgufWriter small_file(std::uint32_t version = 3) {
  GgufWriter writer(version);
  writer.add_string("general.architecture", "llama");
  writer.add_u32("general.alignment", 32);
  writer.add("an.i8", 1, bytes_of(std::int8_t{-7}));
  writer.add("an.i64", 11, bytes_of(std::int64_t{-5'000'000'000}));
  writer.add("a.u64", 10, bytes_of(std::uint64_t{1} << 63));
  writer.add("an.f64", 12, bytes_of(0.125));
  writer.add_f32("an.f32", 1.5F);
  writer.add_bool("a.bool", true);
  writer.add_strings("some.strings", {"one", "", "three"});
  writer.add_array("some.u16", 2, 2, bytes_of(std::uint16_t{3}) + bytes_of(std::uint16_t{65535}));
  writer.add_array("some.f32", 6, 2, bytes_of(0.5F) + bytes_of(-2.0F));
  writer.add_array("some.bools", 7, 2, std::string("\0\1", 2));
  writer.add_tensor({"floats", DType::kF32, {3, 2}, std::string(24, 'f')});
  writer.add_tensor({"halves", DType::kF16, {5}, std::string(10, 'h')});
  writer.add_tensor({"brains", DType::kBF16, {1, 2, 3}, std::string(12, 'b')});
  writer.add_tensor({"eights", DType::kQ8_0, {2, 64}, std::string(136, '8')});
  writer.add_tensor({"fours", DType::kQ4_0, {1, 32}, std::string(18, '4')});
  writer.add_tensor({"ones", DType::kQ4_1, {1, 32}, std::string(20, '1')});
  return writer;
}

// Opens the bytes as a file and reads all there is; the error's message, "" if there is none.
std::string error_of(const TemporaryDirectory& directory, std::string_view bytes) {
  const auto path = directory.write("model.gguf", bytes);
  try {
    const GgufFile gguf(path);
    unsigned sum = 0;
    for (const FileTensor& tensor : gguf.tensors())
      for (const std::byte byte : tensor.data) sum += std::to_integer<unsigned>(byte);
    for (const char* key : {"an.i8", "an.i64", "general.alignment"}) sum += gguf.find_int(key).has_value();
    for (const char* key : {"an.f32", "an.f64"}) sum += gguf.find_float(key).has_value();
    gguf.find_strings("some.strings");
    gguf.find_ints("some.u16");
    gguf.find_floats("some.f32");
    gguf.find_bool("a.bool");
    EXPECT_NE(sum, 0U);
  } catch (const ModelFileError& error) {
    EXPECT_EQ(std::string(error.what()).find(path.string()), 0U) << "the file comes first: " << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}

TEST(Gguf, ReadsEveryTypeOfValueInBothVersions) {
  const TemporaryDirectory directory;
  for (const std::uint32_t version : {2U, 3U}) {
    const GgufFile gguf(directory.write("model.gguf", small_file(version).finish()));
    EXPECT_EQ(gguf.version(), version);
    EXPECT_EQ(gguf.num_keys(), 12U);
    EXPECT_EQ(gguf.find_string("general.architecture"), "llama");
    EXPECT_EQ(gguf.find_int("an.i8"), -7);
    EXPECT_EQ(gguf.find_int("an.i64"), -5'000'000'000);
    EXPECT_EQ(gguf.find_float("an.f32"), 1.5);
    EXPECT_EQ(gguf.find_float("an.f64"), 0.125);
    EXPECT_EQ(gguf.find_float("an.i8"), -7.0);
    EXPECT_EQ(gguf.find_bool("a.bool"), true);
    EXPECT_EQ(gguf.find_strings("some.strings"), (std::vector<std::string>{"one", "", "three"}));
    EXPECT_EQ(gguf.find_ints("some.u16"), (std::vector<std::int64_t>{3, 65535}));
    EXPECT_EQ(gguf.find_floats("some.f32"), (std::vector<double>{0.5, -2.0}));
    EXPECT_FALSE(gguf.find_int("absent"));
  }
}

TEST(Gguf, FindsTensorsWithTheirTypesShapesAndBytes) {
  const TemporaryDirectory directory;
  const GgufFile gguf(directory.write("model.gguf", small_file().finish()));
  const auto expect = [&](const char* tensor_name, DType dtype, std::vector<std::int64_t> shape,
                          std::size_t bytes, char fill) {
    const FileTensor* tensor = gguf.find_tensor(tensor_name);
    ASSERT_NE(tensor, nullptr) << tensor_name;
    EXPECT_EQ(tensor->dtype, dtype);
    EXPECT_EQ(tensor->shape, shape);
    EXPECT_EQ(tensor->data.size(), bytes);
    EXPECT_EQ(tensor->offset() % 32, 0U);
    for (const std::byte byte : tensor->data) ASSERT_EQ(byte, static_cast<std::byte>(fill));
  };
  expect("floats", DType::kF32, {3, 2}, 24, 'f');
  expect("halves", DType::kF16, {5}, 10, 'h');
  expect("brains", DType::kBF16, {1, 2, 3}, 12, 'b');
  expect("eights", DType::kQ8_0, {2, 64}, 136, '8');
  expect("fours", DType::kQ4_0, {1, 32}, 18, '4');
  expect("ones", DType::kQ4_1, {1, 32}, 20, '1');
  EXPECT_EQ(gguf.find_tensor("other"), nullptr);
}

TEST(Gguf, NamesTheKeyWhereAValueHasAnotherType) {
  const TemporaryDirectory directory;
  const GgufFile gguf(directory.write("model.gguf", small_file().finish()));
  const auto message = [](auto&& read) -> std::string {
    try {
      read();
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  };
  const auto ends_with = [&](const std::string& text, const std::string& end) {
    EXPECT_TRUE(text.ends_with(end)) << text;
  };
  ends_with(message([&] { gguf.find_int("an.f32"); }), ": expected an integer, found f32");
  ends_with(message([&] { gguf.find_int("a.u64"); }),
            ": expected an integer below 2^63, found 9223372036854775808");
  ends_with(message([&] { gguf.find_string("some.strings"); }), ": expected string, found array of string");
  ends_with(message([&] { gguf.find_strings("some.u16"); }),
            ": expected array of strings, found array of u16");
  ends_with(message([&] { gguf.find_bool("an.i8"); }), ": expected bool, found i8");
  EXPECT_NE(message([&] { gguf.find_bool("an.i8"); }).find("key \"an.i8\", at byte "), std::string::npos);
}

// The offset of the `index`-th field called `what`.
std::size_t offset_of(const GgufWriter& writer, const std::string& what, int index) {
  for (const auto& field : writer.fields())
    if (field.what == what && index-- == 0) return field.offset;
  ADD_FAILURE() << "no field " << what;
  return 0;
}

TEST(Gguf, RefusesEachKindOfBadFieldByName) {
  const TemporaryDirectory directory;
  GgufWriter writer = small_file();
  const std::string good = writer.finish();
  ASSERT_EQ(error_of(directory, good), "");
  struct Case {
    const char* field;
    int index;
    std::string bytes;
    const char* message;
  };
  const auto u32 = [](std::uint32_t value) { return bytes_of(value); };
  const auto u64 = [](std::uint64_t value) { return bytes_of(value); };
  const Case cases[] = {
      {"version", 0, u32(1), "header, at byte 4: expected version 2 or 3, found 1"},
      {"version", 0, u32(0x03000000), "expected version 2 or 3"},
      {"tensor count", 0, u64(std::uint64_t{1} << 61),
       "tensor count, at byte 8: expected a count that the rest"},
      {"key count", 0, u64(~std::uint64_t{0}), "key count, at byte 16: expected a count"},
      {"key count", 0, u64(13), "tensor 0, at byte"},
      {"key length", 2, u64(~std::uint64_t{0} - 3), "key 2, at byte"},
      {"string length", 0, u64(std::uint64_t{1} << 40), "key \"general.architecture\", at byte"},
      {"value type", 3, u32(13), "key \"an.i64\", at byte"},
      {"value", 0, u32(48),
       "key \"general.alignment\", at byte 69: expected a power of two up to 2^30, found 48"},
      {"value", 0, u32(0), "expected a power of two"},
      {"value", 6, std::string(1, '\2'), "expected a bool, 0 or 1, found 2"},
      {"element type", 0, u32(9), "expected an array of scalars, found an array of arrays"},
      {"element type", 1, u32(77), "expected a value type below 13, found 77"},
      {"array length", 0, u64(std::uint64_t{1} << 62), "key \"some.strings\""},
      {"array length", 1, u64((std::uint64_t{1} << 63) + 2), "key \"some.u16\""},
      {"name length", 1, u64(~std::uint64_t{0}), "tensor 1, at byte"},
      {"dimensions", 0, u32(0), "tensor \"floats\""},
      {"dimensions", 0, u32(5), "expected 1 to 4 dimensions, found 5"},
      {"dimension", 0, u64(0), "expected a dimension of at least 1"},
      {"dimension", 1, u64(std::uint64_t{1} << 63), "tensor \"floats\""},
      {"tensor type", 0, u32(16), "tensor \"floats\", at byte"},
      {"tensor type", 0, u32(16),
       "expected a type among f32, f16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, "
       "iq4_xs, bf16, mxfp4, found iq2_xxs"},
      {"tensor type", 0, u32(12), "expected a row length that is a multiple of 256 for type q4_k, found 2"},
      {"tensor type", 0, u32(99), "found type 99"},
      {"tensor type", 0, u32(8), "expected a row length that is a multiple of 32 for type q8_0, found 2"},
      {"offset", 1, u64(33), "tensor \"halves\""},
      {"offset", 1, u64(33), "expected an offset that is a multiple of 32, found 33"},
      {"offset", 1, u64(std::uint64_t{1} << 63), "of the data section, found a data section of"},
      {"offset", 1, u64(~std::uint64_t{31}), "of the data section, found a data section of"},
      {"offset", 2, u64(32), "overlapping data"},
  };
  for (const Case& c : cases) {
    std::string bad = good;
    bad.replace(offset_of(writer, c.field, c.index), c.bytes.size(), c.bytes);
    EXPECT_NE(error_of(directory, bad).find(c.message), std::string::npos)
        << c.field << " " << c.index << ": " << error_of(directory, bad);
  }
  std::string magic = good;
  magic[0] = 'g';
  EXPECT_NE(error_of(directory, magic).find("expected the magic GGUF"), std::string::npos);
}

TEST(Gguf, RefusesDuplicateNames) {
  const TemporaryDirectory directory;
  GgufWriter keys = small_file();
  keys.add_u32("an.i8", 1);
  EXPECT_NE(error_of(directory, keys.finish()).find("key \"an.i8\""), std::string::npos);
  GgufWriter tensors = small_file();
  tensors.add_tensor({"halves", DType::kF32, {1}, std::string(4, 'x')});
  EXPECT_NE(error_of(directory, tensors.finish()).find("tensor \"halves\""), std::string::npos);
}

TEST(Gguf, RefusesAFileCutAnywhere) {
  const TemporaryDirectory directory;
  const std::string good = small_file().finish();
  for (std::size_t size = 0; size < good.size(); ++size)
    ASSERT_NE(error_of(directory, good.substr(0, size)), "") << size << " of " << good.size() << " bytes";
}

TEST(Gguf, SurvivesEveryFieldSetToExtremes) {
  const TemporaryDirectory directory;
  GgufWriter writer = small_file();
  const std::string good = writer.finish();
  const std::uint64_t extremes[] = {0, 1, 33, 255, 1u << 31, 1ull << 61, ~0ull, ~0ull - 31, good.size()};
  int num_refused = 0;
  for (const auto& field : writer.fields())
    for (const auto value : extremes) {
      std::string bad = good;
      const auto bytes = bytes_of(value);
      bad.replace(field.offset, std::min(field.size, bytes.size()),
                  bytes.substr(0, std::min(field.size, bytes.size())));
      num_refused += !error_of(directory, bad).empty();
    }
  EXPECT_GT(num_refused, 200);
}

TEST(Gguf, SurvivesRandomChanges) {
  const TemporaryDirectory directory;
  const std::string good = small_file().finish();
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  int num_refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string bad = good;
    for (auto changes = random() % 4 + 1; changes > 0; --changes)
      bad[random() % 700] = static_cast<char>(random() % 3 == 0 ? 255 : random());
    num_refused += !error_of(directory, bad).empty();
  }
  EXPECT_GT(num_refused, 100);
}

}  // namespace
}  // namespace redline
