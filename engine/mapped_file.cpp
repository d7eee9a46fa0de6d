#include "engine/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

#include "engine/model_file_error.h"

namespace redline {
namespace {

// What the signal handler needs to name a file: no locks and no heap there, so a fixed table. A mapping that
// finds it full works as any other and is only not named.
struct MappingSlot {
  std::atomic<std::uintptr_t> begin{0};  // 0: free
  std::atomic<std::uintptr_t> end{0};
  std::array<char, 512> path{};
};
std::array<MappingSlot, 256> mapping_slots;
std::mutex mapping_slots_mutex;
struct sigaction previous_action;

void write_text(const char* text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const MappingSlot& slot : mapping_slots) {
    const auto begin = slot.begin.load();
    if (begin == 0 || address < begin || address >= slot.end.load()) continue;
    write_text("redline: ");
    write_text(slot.path.data());
    write_text(": the file shrank or could not be read while it was in use\n");
    ::_exit(1);
  }
  // Not ours: the faulting instruction runs again under the action that was there before.
  ::sigaction(SIGBUS, &previous_action, nullptr);
}

int name_mapping(const std::string& path, std::uintptr_t begin, std::size_t size) {
  const std::lock_guard lock(mapping_slots_mutex);
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGBUS, &action, &previous_action) == 0;
  }();
  if (!installed) return -1;
  for (std::size_t i = 0; i < mapping_slots.size(); ++i) {
    MappingSlot& slot = mapping_slots[i];
    if (slot.begin.load() != 0) continue;
    const auto length = std::min(path.size(), slot.path.size() - 1);
    std::copy_n(path.begin(), length, slot.path.begin());
    slot.path[length] = '\0';
    slot.end.store(begin + size);
    slot.begin.store(begin);
    return static_cast<int>(i);
  }
  return -1;
}

[[noreturn]] void throw_errno(const std::string& path, const char* action) {
  throw ModelFileError({path}, std::string(action) + ": " + std::strerror(errno));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path.string()) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_errno(path_, "cannot open");
  struct stat status {};
  const bool ok = ::fstat(fd, &status) == 0;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (!ok || !S_ISREG(status.st_mode) || size == 0) {
    ::close(fd);
    if (ok && S_ISREG(status.st_mode)) throw ModelFileError({path_}, "the file is empty");
    throw ModelFileError({path_}, "not a regular file");
  }
  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  const int map_errno = errno;
  ::close(fd);
  errno = map_errno;
  if (mapping == MAP_FAILED) throw_errno(path_, "cannot map");
  bytes_ = {static_cast<const std::byte*>(mapping), size};
  mapped_ = true;
  slot_ = name_mapping(path_, reinterpret_cast<std::uintptr_t>(mapping), size);
}

MappedFile::MappedFile(std::string name, std::span<const std::byte> bytes)
    : path_(std::move(name)), bytes_(bytes) {
  if (bytes_.empty()) throw ModelFileError({path_}, "the file is empty");
}

MappedFile::~MappedFile() {
  if (slot_ >= 0) mapping_slots[static_cast<std::size_t>(slot_)].begin.store(0);
  if (mapped_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::release(std::span<const std::byte> range) const {
  if (!mapped_) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(range.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(range.data() + range.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace redline
