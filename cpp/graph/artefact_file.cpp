// Artefacts as files: read whole, written so that the old file or the new one is there, never half of one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "graph/artefact_format.h"
#include "graph/json.h"

namespace taille {
namespace {

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  // Where the answer matters: some file systems report a failed write only here.
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

std::string system_text(int error) { return std::generic_category().message(error); }

[[noreturn]] void refuse_save(const std::string& path, const char* step, int error) {
  throw std::filesystem::filesystem_error(concat("saving an artefact: ", step), path,
                                          std::error_code(error, std::generic_category()));
}

void write_all(int fd, const char* from, size_t count, const std::string& path) {
  constexpr size_t kMost = size_t{1} << 30;  // Linux writes at most 2 GiB at once
  while (count > 0) {
    const ssize_t done = ::write(fd, from, std::min(count, kMost));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) refuse_save(path, "write", errno);
    from += done;
    count -= static_cast<size_t>(done);
  }
}

// A new file beside `path`, removed again unless it was renamed.
class Beside {
 public:
  explicit Beside(const std::string& path) : path_(path), file_(create()) {}
  ~Beside() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;

  int fd() const { return file_.fd(); }

  void replace() {
    if (::fsync(file_.fd()) != 0) refuse_save(path_, "fsync", errno);
    if (file_.close() != 0) refuse_save(path_, "close", errno);
    if (::rename(name_.c_str(), path_.c_str()) != 0) refuse_save(path_, "rename", errno);
    name_.clear();
  }

 private:
  const std::string& path_;
  std::string name_;
  File file_;

  // Not mkstemp, which makes files that only the owner can read: here the umask decides.
  int create() {
    const std::filesystem::path target(path_);
    const std::string stem = target.filename().string().substr(0, 200);  // names end at 255 bytes
    std::random_device random;
    for (int attempt = 0; attempt < 100; ++attempt) {
      name_ = target.parent_path() / concat(".", stem, ".", std::hex, random(), random(), ".tmp");
      const int fd = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd >= 0) return fd;
      if (errno == EEXIST || errno == EINTR) continue;
      break;
    }
    const int error = errno;
    name_.clear();  // nothing of ours to remove
    refuse_save(path_, "create", error);
  }
};

// So that the new name survives a crash. Where the directory cannot be opened or synced the file is there all the same.
void sync_directory(const std::string& path) {
  std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (parent.empty()) parent = ".";
  const File directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.is_open() && ::fsync(directory.fd()) != 0 && errno == EIO) refuse_save(path, "fsync directory", EIO);
}

}  // namespace

int64_t save_artefact(const std::string& path, const Graph& graph, const std::string& metadata) {
  const std::vector<artefact::StoredTensor> stored = artefact::stored_tensors(graph);
  const std::string head = artefact::file_head(graph, stored, metadata);
  struct stat existing{};
  if (::stat(path.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode))
    refuse_save(path, "the path is no file", S_ISDIR(existing.st_mode) ? EISDIR : EINVAL);  // rename would replace it
  Beside file(path);
  write_all(file.fd(), head.data(), head.size(), path);
  auto total = static_cast<int64_t>(head.size());
  for (const auto& s : stored) {
    const Buffer& data = s.tensor->data;
    write_all(file.fd(), data.data<char>(), data.size(), path);
    total += static_cast<int64_t>(data.size());
  }
  file.replace();
  sync_directory(path);
  return total;
}

Artefact load_artefact(const std::string& path) {
  const auto fail = [&](const std::string& what) { throw ArtefactError(concat(printable(path, 4096), ": ", what)); };
  // O_NONBLOCK: a pipe without a writer must not hold us before we see that it is none of ours.
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail(concat("cannot be opened: ", system_text(errno)));
  struct stat info{};
  if (::fstat(file.fd(), &info) != 0) fail(concat("cannot be examined: ", system_text(errno)));
  if (S_ISDIR(info.st_mode)) fail("is a directory, not a file");
  if (!S_ISREG(info.st_mode)) fail("is not a regular file");
  return artefact::read_artefact(static_cast<uint64_t>(info.st_size), path, [&](std::span<uint8_t> to) {
    while (!to.empty()) {
      const ssize_t done = ::read(file.fd(), to.data(), std::min(to.size(), size_t{1} << 30));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail(concat("cannot be read: ", system_text(errno)));
      if (done == 0) fail("became shorter while it was read");
      to = to.subspan(static_cast<size_t>(done));
    }
  });
}

}  // namespace taille
