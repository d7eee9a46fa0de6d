// The program on broken models: exit status 1, and one line on stderr that names the file.
#include <gtest/gtest.h>

#include <random>

#include "tests/bad_files/mutations.h"
#include "tests/engine/tiny_llama.h"
#include "tests/tools/shell.h"

namespace redline {
namespace {

void expect_refusal(const std::string& command, const std::string& file, const std::string& what) {
  const auto result = tests::redline(command);
  SCOPED_TRACE(command + ", " + what);
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_EQ(result.out, "");
  const std::string last = result.err.substr(std::min(result.err.rfind("redline: "), result.err.size()));
  EXPECT_TRUE(last.starts_with("redline: " + file)) << result.err;
  EXPECT_EQ(std::count(last.begin(), last.end(), '\n'), 1) << result.err;
  EXPECT_LT(last.size(), 600U) << result.err;
}

std::string run_command(const std::string& model) {
  return "run " + tests::shell_word(model) + " --raw -p A -n 1";
}
std::string inspect_command(const std::string& model) { return "inspect " + tests::shell_word(model); }

TEST(CommandLineOnBadFiles, AModelWithoutAFaultRuns) {
  const TemporaryDirectory directory;
  const auto path = directory.write("model.gguf", tiny_gguf(DType::kQ8_0, true).finish()).string();
  for (const std::string& command : {run_command(path), inspect_command(path)})
    EXPECT_EQ(tests::redline(command).status, 0) << tests::redline(command).err;
}

TEST(CommandLineOnBadFiles, EachKindOfFaultIsOneLineAndStatusOne) {
  const TemporaryDirectory directory;
  GgufWriter writer = tiny_gguf(DType::kQ8_0, true);
  const std::string good = writer.finish();
  const auto patched = [&](const char* field, std::uint64_t value) {
    std::string bad = good;
    for (const auto& each : writer.fields())
      if (each.what == field) {
        bad.replace(each.offset, each.size, bytes_of(value).substr(0, each.size));
        break;
      }
    return bad;
  };
  const std::pair<const char*, std::string> files[] = {
      {"cut in its header", good.substr(0, 100)},
      {"cut in its tensors", good.substr(0, good.size() - 100)},
      {"another magic", "GGML" + good.substr(4)},
      {"version", patched("version", 7)},
      {"tensor count", patched("tensor count", ~std::uint64_t{0})},
      {"key count", patched("key count", 1u << 20)},
      {"value type", patched("value type", 77)},
      {"tensor type", patched("tensor type", 77)},
      {"dimension", patched("dimension", 1ull << 62)},
      {"offset", patched("offset", 1ull << 62)},
      {"nothing", ""},
      {"text", "What is this?\n"}};
  for (const auto& [what, bytes] : files) {
    const auto path = directory.write("model.gguf", bytes).string();
    expect_refusal(inspect_command(path), path, what);
    expect_refusal(run_command(path), path, what);
  }
}

TEST(CommandLineOnBadFiles, EachFileOfADirectoryIsNamed) {
  const TemporaryDirectory directory;
  const std::pair<const char*, std::string> files[] = {
      {"config.json", "{\"model_type\": \"llama\","},
      {"config.json", "{}"},
      {"config.json", std::string(100'000, '[')},
      {"model.safetensors", bytes_of(~std::uint64_t{0})},
      {"model.safetensors", safetensors_bytes("{\"a\":1}", "")},
      {"tokenizer.json", "{\"model\": {\"type\": \"WordPiece\"}}"},
      {"tokenizer.json", std::string(100'000, '[')},
      {"tokenizer_config.json", "\xff\xfe"},
      {"generation_config.json", "{\"eos_token_id\": -1}"}};
  for (const auto& [name, bytes] : files) {
    directory.write("model/config.json", tiny_config_json());
    directory.write("model/model.safetensors", safetensors_bytes(tiny_tensors(DType::kBF16, false)));
    directory.write(
        "model/tokenizer.json",
        R"({"model":{"type":"BPE","vocab":{"A":0},"merges":[]},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false}})");
    directory.write("model/tokenizer_config.json", "{}");
    directory.write("model/generation_config.json", "{}");
    const auto model = (directory.path() / "model").string();
    if (&name == &files[0].first) {
      EXPECT_EQ(tests::redline(run_command(model)).status, 0) << tests::redline(run_command(model)).err;
    }
    const auto path = directory.write("model/" + std::string(name), bytes).string();
    expect_refusal(run_command(model), path, bytes.substr(0, 40));
  }
}

TEST(CommandLineOnBadFiles, ABrokenTemplateOrConversationIsNamed) {
  const TemporaryDirectory directory;
  const auto model = directory.write("model.gguf", tiny_gguf(DType::kQ8_0, true).finish()).string();
  const auto messages = directory.write("messages.json", R"([{"role":"user","content":"A"}])").string();
  const auto source = directory.write("template.jinja", "{% if %}").string();
  const auto render = [&](const std::string& with, const std::string& of) {
    return "template " + tests::shell_word(model) + " --template " + tests::shell_word(with) +
           " --messages " + tests::shell_word(of);
  };
  expect_refusal(render(source, messages), source, "a template without end");
  directory.write("template.jinja", "{{ messages }}");
  EXPECT_EQ(tests::redline(render(source, messages)).out, "[{'role': 'user', 'content': 'A'}]");
  for (const std::string& bad : {std::string("["), std::string("{}"), std::string("[1e999]"),
                                 std::string(1'000'000, '[') + std::string(1'000'000, ']')}) {
    directory.write("messages.json", bad);
    expect_refusal(render(source, messages), messages, bad.substr(0, 20));
  }
  directory.write("template.jinja", "{% macro m() %}\n{{ m() }}{% endmacro %}{{ m() }}");
  directory.write("messages.json", "[]");
  expect_refusal(render(source, messages), source + ": line ", "recursion");
}

TEST(CommandLineOnBadFiles, AnyChangedFileEndsInStatusZeroOrOne) {
  const TemporaryDirectory directory;
  auto mutations = gguf_mutations(tiny_gguf(DType::kQ8_0, true));
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::ranges::shuffle(mutations, random);
  mutations.resize(60);
  for (const Mutation& mutation : mutations) {
    const auto path = directory.write("model.gguf", mutation.bytes).string();
    const auto result = tests::redline(run_command(path));
    const bool computed = result.err.find("the model's logits hold NaN") != std::string::npos;
    if (computed || result.status == 0) {  // the values' fault, or none
      EXPECT_EQ(result.status, computed ? 1 : 0) << mutation.what;
      continue;
    }
    expect_refusal(run_command(path), path, mutation.what);
  }
}

}  // namespace
}  // namespace redline
