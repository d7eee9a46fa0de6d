// What every thread of the program is doing, for whoever asks why it hangs.
#pragma once

namespace redline {

/// Writes to stderr the frames of all threads but the calling one, innermost first, as addresses in their
/// files (addr2line -f -e FILE ADDRESS names them). Takes SIGUSR1 for itself. A thread that does not answer
/// within a second is passed over.
void dump_stacks();

}  // namespace redline
