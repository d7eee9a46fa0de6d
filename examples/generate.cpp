// The library in thirty lines: continues a text, then says what that cost.
//   generate MODEL TEXT
#include <exception>
#include <iostream>

#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: generate MODEL TEXT\n";
    return 2;
  }
  const auto model = redline::LoadedModel::open(argv[1], {});
  redline::Engine engine(model, {});

  redline::Request request;
  request.prompt = model->tokenizer->encode(argv[2]);
  request.sampling.max_tokens = 32;
  const auto stream = engine.submit(request);
  while (const auto event = stream->next()) std::cout << event->text << std::flush;

  const redline::RequestUsage usage = stream->usage();
  std::cout << "\n"
            << usage.generated_tokens << " tokens: " << usage.prefill.useful_flops() << " FLOPs and "
            << usage.prefill.min_bytes() << " bytes for the prompt, " << usage.decode.useful_flops()
            << " and " << usage.decode.min_bytes() << " for the answer\n";
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
