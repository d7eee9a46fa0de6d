#include "engine/safetensors.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/model_file_error.h"
#include "tests/engine/model_files.h"

namespace redline {
namespace {

std::string small_file() {
  return safetensors_bytes({{"weight.b", DType::kBF16, {2, 3}, std::string(12, 'b')},
                            {"weight.a", DType::kF32, {2}, std::string(8, 'a')},
                            {"empty", DType::kF32, {0, 4}, ""},
                            {"weight.h", DType::kF16, {}, std::string(2, 'h')}});
}

std::string error_of(const TemporaryDirectory& directory, std::string_view bytes) {
  const auto path = directory.write("model.safetensors", bytes);
  try {
    const SafetensorsFile file(path);
    unsigned sum = 1;
    for (const SafetensorsTensor& tensor : file.tensors())
      for (const std::byte byte : tensor.data) sum += std::to_integer<unsigned>(byte);
    EXPECT_NE(sum, 0U);
  } catch (const ModelFileError& error) {
    EXPECT_EQ(std::string(error.what()).find(path.string()), 0U) << "the file comes first: " << error.what();
    return error.what();
  }
  return "";
}

TEST(Safetensors, FindsTensorsWithTheirTypesShapesAndBytes) {
  const TemporaryDirectory directory;
  const SafetensorsFile file(directory.write("model.safetensors", small_file()));
  ASSERT_EQ(file.tensors().size(), 4U);
  const SafetensorsTensor& b = file.tensors()[0];
  EXPECT_EQ(b.name, "weight.b");
  EXPECT_EQ(b.type, SafetensorsType::kBF16);
  EXPECT_EQ(b.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(b.data.size(), 12U);
  EXPECT_EQ(b.data[11], std::byte{'b'});
  EXPECT_EQ(file.tensors()[3].type, SafetensorsType::kF16);
  EXPECT_TRUE(file.tensors()[3].shape.empty());
}

TEST(Safetensors, RefuseEachKindOfBadHeaderByName) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& header, std::size_t data_bytes) {
    return error_of(directory, safetensors_bytes(header, std::string(data_bytes, 'x')));
  };
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"({"w":{"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
           offsets + "}}";
  };
  ASSERT_EQ(message(entry("F32", "[2]", "[0,8]"), 8), "");
  struct Case {
    std::string header;
    std::size_t data_bytes;
    const char* message;
  };
  const Case cases[] = {
      {"", 8, "this is not JSON"},
      {"{\"w\":", 8, "this is not JSON"},
      {"[1]", 8, "expected a JSON object, found array"},
      {R"({"w":{},"w":{}})", 8, "key \"w\": expected each key once"},
      {R"({"w":7})", 8, "tensor \"w\": expected an object, found 7"},
      {R"({"w":{}})", 8, "expected the field dtype"},
      {entry("I64", "[1]", "[0,8]"), 8,
       "tensor \"w\": expected dtype F32, F16, BF16, F8_E4M3 or I32, found \"I64\""},
      {entry("F32", "[-2]", "[0,8]"), 8, "expected a shape of sizes"},
      {entry("F32", "[2.0]", "[0,8]"), 8, "expected a shape of sizes"},
      {entry("F32", "2", "[0,8]"), 8, "expected shape as an array"},
      {entry("F32", "[1e999]", "[0,8]"), 8, "expected numbers up to 1.8e308, found \"'1e999'\""},
      {entry("F32", "[4611686018427387905]", "[0,8]"), 8, "expected a shape within the data's 8 bytes"},
      {entry("F32", "[4294967296,4294967296]", "[0,0]"), 8, "expected a shape within the data's 8 bytes"},
      {entry("F32", "[2]", "[8,0]"), 8, "expected data_offsets within the data's 8 bytes, found [8,0]"},
      {entry("F32", "[2]", "[0,16]"), 8, "expected data_offsets within"},
      {entry("F32", "[2]", "[0,18446744073709551615]"), 8, "expected data_offsets within"},
      {entry("F32", "[2]", "[0,4]"), 8, "expected data_offsets 8 bytes apart"},
      {entry("F32", "[2]", "[0]"), 8, "expected data_offsets [begin, end]"},
      {entry("F32", "[2]", "[4,12]"), 12, "found a gap"},
      {entry("F32", "[2]", "[0,8]"), 12, "expected the end of the file, found 4 more bytes"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "tensor \"b\""},
      {std::string(100, '[') + std::string(100, ']'), 8, "expected nesting of up to 32 levels"},
  };
  for (const Case& c : cases)
    EXPECT_NE(message(c.header, c.data_bytes).find(c.message), std::string::npos)
        << c.header << ": " << message(c.header, c.data_bytes);
}

TEST(Safetensors, RefuseALongerHeaderThanTheFile) {
  const TemporaryDirectory directory;
  const std::string good = small_file();
  for (const std::uint64_t length :
       {std::uint64_t{good.size() - 7}, std::uint64_t{100'000'001}, ~std::uint64_t{0}}) {
    std::string bad = good;
    bad.replace(0, 8, bytes_of(length));
    EXPECT_NE(error_of(directory, bad).find("header length, at byte 0: expected at most"), std::string::npos);
  }
}

TEST(Safetensors, RefuseAFileCutAnywhere) {
  const TemporaryDirectory directory;
  const std::string good = small_file();
  for (std::size_t size = 0; size < good.size(); ++size)
    ASSERT_NE(error_of(directory, good.substr(0, size)), "") << size << " of " << good.size() << " bytes";
}

TEST(Safetensors, SurviveRandomChanges) {
  const TemporaryDirectory directory;
  const std::string good = small_file();
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  constexpr std::string_view kInteresting = "0123456789[]{},:\"-e.\\u\xff";
  int num_refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string bad = good;
    for (auto changes = random() % 3 + 1; changes > 0; --changes)
      bad[random() % (good.size() - 22)] = kInteresting[random() % kInteresting.size()];
    num_refused += !error_of(directory, bad).empty();
  }
  EXPECT_GT(num_refused, 250);
}

class ShardedSafetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_.write("one.safetensors", safetensors_bytes({{"a", DType::kF32, {1}, std::string(4, 'a')}}));
    directory_.write("two.safetensors", safetensors_bytes({{"b", DType::kF32, {1}, std::string(4, 'b')},
                                                           {"c", DType::kF32, {1}, std::string(4, 'c')}}));
  }
  std::string error_with(const std::string& weight_map) {
    directory_.write("model.safetensors.index.json", R"({"metadata":{},"weight_map":)" + weight_map + "}");
    try {
      open_safetensors(directory_.path());
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  }
  TemporaryDirectory directory_;
};

TEST_F(ShardedSafetensors, OpenEveryShardThatTheIndexNames) {
  EXPECT_EQ(error_with(R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})"), "");
  const auto files = open_safetensors(directory_.path());
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[1]->tensors()[1].name, "c");
}

TEST_F(ShardedSafetensors, RefuseAnIndexThatDisagrees) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a":"one.safetensors","b":"two.safetensors"})", "two.safetensors: tensor \"c\""},
      {R"({"a":"two.safetensors","b":"two.safetensors","c":"two.safetensors"})",
       "expected 3 tensors, as the index says, found 2"},
      {R"({"a":"one.safetensors","d":"one.safetensors"})", "expected 2 tensors"},
      {R"({"a":"three.safetensors"})", "three.safetensors: cannot open"},
      {R"({"a":"../one.safetensors"})", "weight_map.a: expected the name of a file in this directory"},
      {R"({"a":7})", "weight_map.a: expected the name of a file"},
      {R"({"a":"one.safetensors","a":"two.safetensors"})", "each key once"},
      {R"([])", "weight_map: expected an object, found []"},
  };
  for (const auto& [weight_map, message] : cases)
    EXPECT_NE(error_with(weight_map).find(message), std::string::npos) << error_with(weight_map);
}

TEST_F(ShardedSafetensors, AreLookedForByTheirNames) {
  EXPECT_THROW(open_safetensors(directory_.path()), ModelFileError);
}

}  // namespace
}  // namespace redline
