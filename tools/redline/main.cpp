#include "tools/redline/program.h"
#include "tools/redline/terminal.h"

int main(int argc, char** argv) {
  redline::handle_interrupts();
  return redline::run_program(argc, argv);
}
