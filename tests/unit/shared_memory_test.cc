#include "server/shared_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <limits>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"

namespace dla::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

// Shared memory as a caller makes it; removed at the end.
class CallersMemory {
 public:
  explicit CallersMemory(size_t size) {
    fd_ = shm_open(key_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd_ < 0) throw std::system_error(errno, std::generic_category());
    Resize(size);
  }
  ~CallersMemory() {
    close(fd_);
    shm_unlink(key_.c_str());
  }

  const std::string& key() const { return key_; }

  void Resize(size_t size) {
    if (ftruncate(fd_, static_cast<off_t>(size)) != 0) {
      throw std::system_error(errno, std::generic_category());
    }
  }
  size_t size() const {
    struct stat file;
    return fstat(fd_, &file) == 0 ? file.st_size : 0;
  }

  // Through a mapping, as callers do it.
  void Put(size_t offset, absl::string_view bytes) {
    WithMapping([&](char* memory) { bytes.copy(memory + offset, bytes.size()); });
  }
  std::string Get(size_t offset, size_t count) {
    std::string bytes;
    WithMapping([&](const char* memory) { bytes.assign(memory + offset, count); });
    return bytes;
  }

 private:
  template <typename Use>
  void WithMapping(Use use) {
    void* memory = mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category());
    const size_t mapped = size();
    use(static_cast<char*>(memory));
    munmap(memory, mapped);
  }

  static int NextNumber() {
    static std::atomic<int> count = 0;
    return count++;
  }

  std::string key_ = absl::StrCat("/dla_test_", getpid(), "_", NextNumber());
  int fd_ = -1;
};

TEST(SharedMemoryTest, CopiesWhatTheCallerWroteAndGivesBackWhatTheServerWrites) {
  CallersMemory memory(8192);
  memory.Put(5000, "a photo");
  SharedMemoryRegions regions;
  ASSERT_TRUE(regions.Register({"in", memory.key(), 5000, 100}).ok());
  const auto region = regions.Find("in");
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_EQ((*region)->Read(0, 7).value(), "a photo");
  EXPECT_EQ((*region)->Read(2, 5).value(), "photo");
  ASSERT_TRUE((*region)->Write(93, "results").ok());
  EXPECT_EQ(memory.Get(5093, 7), "results");
  EXPECT_EQ(memory.Get(5100, 1), std::string(1, '\0'));
}

TEST(SharedMemoryTest, TouchesNothingOutsideTheRegion) {
  CallersMemory memory(100);
  SharedMemoryRegions regions;
  ASSERT_TRUE(regions.Register({"r", memory.key(), 10, 50}).ok());
  const auto region = regions.Find("r").value();
  EXPECT_TRUE(region->Read(0, 50).ok());
  EXPECT_TRUE(region->Read(50, 0).ok());
  for (const auto& [offset, size] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 51}, {50, 1}, {51, 0}, {kMost, 1}, {1, kMost}, {kMost, kMost}}) {
    const absl::Status status = region->Read(offset, size).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << offset << " " << size;
    EXPECT_THAT(std::string(status.message()), HasSubstr("region \"r\" of 50 bytes"));
  }
  EXPECT_EQ(region->Write(49, "ab").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(region->Write(kMost, "ab").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(memory.Get(0, 100), std::string(100, '\0'));
}

TEST(SharedMemoryTest, RefusesRegionsThatAreNotInsideTheSharedMemory) {
  CallersMemory memory(100);
  SharedMemoryRegions regions;
  for (const auto& [offset, size] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 101}, {100, 1}, {101, 1}, {kMost, 1}, {2, kMost - 1}, {kMost, kMost}, {0, 0}}) {
    const absl::Status status = regions.Register({"r", memory.key(), offset, size});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << offset << " " << size;
  }
  EXPECT_TRUE(regions.Status("").value().empty());
  EXPECT_TRUE(regions.Register({"r", memory.key(), 99, 1}).ok());
}

TEST(SharedMemoryTest, ReportsMemoryThatTheCallerMadeSmallerInsteadOfDying) {
  CallersMemory memory(3 * 4096);
  SharedMemoryRegions regions;
  ASSERT_TRUE(regions.Register({"r", memory.key(), 0, 3 * 4096}).ok());
  const auto region = regions.Find("r").value();
  memory.Resize(10);
  EXPECT_TRUE(region->Read(0, 10).ok());
  const absl::Status read = region->Read(8192, 4096).status();
  EXPECT_EQ(read.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(read.message()), HasSubstr("become smaller"));
  EXPECT_EQ(region->Write(8192, "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(memory.size(), 10u);
}

TEST(SharedMemoryTest, ReadsNoMoreAtOnceThanItsLimit) {
  CallersMemory memory(uint64_t{1} << 40);  // costs nothing until it is written
  SharedMemoryRegions regions({.regions = 1, .read_bytes = 1000});
  ASSERT_TRUE(regions.Register({"r", memory.key(), 0, uint64_t{1} << 40}).ok());
  EXPECT_TRUE(regions.Find("r").value()->Read(5, 1000).ok());
  const absl::Status status = regions.Find("r").value()->Read(0, uint64_t{1} << 40).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("more than the 1000"));
}

TEST(SharedMemoryTest, AHeldRegionOutlivesItsName) {
  CallersMemory memory(100);
  memory.Put(0, "held");
  SharedMemoryRegions regions;
  ASSERT_TRUE(regions.Register({"r", memory.key(), 0, 100}).ok());
  const auto region = regions.Find("r").value();
  regions.Unregister("r");
  EXPECT_EQ(regions.Find("r").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(region->Read(0, 4).value(), "held");
  EXPECT_TRUE(regions.Register({"r", memory.key(), 50, 1}).ok());
  regions.Unregister("no such region");
  EXPECT_TRUE(regions.Find("r").ok());
}

TEST(SharedMemoryTest, ListsAndForgetsAll) {
  CallersMemory memory(100);
  SharedMemoryRegions regions;
  ASSERT_TRUE(regions.Register({"b", memory.key(), 1, 2}).ok());
  ASSERT_TRUE(regions.Register({"a", memory.key(), 3, 4}).ok());
  const auto all = regions.Status("").value();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "a");
  EXPECT_EQ(all[0].key, memory.key());
  EXPECT_EQ(all[0].offset, 3u);
  EXPECT_EQ(all[0].byte_size, 4u);
  EXPECT_EQ(regions.Status("b").value().at(0).byte_size, 2u);
  EXPECT_EQ(regions.Status("c").status().code(), absl::StatusCode::kNotFound);
  regions.Unregister("");
  EXPECT_TRUE(regions.Status("").value().empty());
}

TEST(SharedMemoryTest, RefusesATakenNameAndTooManyRegions) {
  CallersMemory memory(100);
  SharedMemoryRegions regions({.regions = 2});
  ASSERT_TRUE(regions.Register({"a", memory.key(), 0, 1}).ok());
  EXPECT_EQ(regions.Register({"a", memory.key(), 0, 1}).code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(regions.Register({"b", memory.key(), 0, 1}).ok());
  EXPECT_EQ(regions.Register({"c", memory.key(), 0, 1}).code(),
            absl::StatusCode::kResourceExhausted);
  regions.Unregister("a");
  EXPECT_TRUE(regions.Register({"c", memory.key(), 0, 1}).ok());
}

TEST(SharedMemoryTest, NamesTheKeyThatCannotBeOpened) {
  SharedMemoryRegions regions;
  const absl::Status unknown = regions.Register({"r", "/dla_no_such_memory", 0, 1});
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("\"/dla_no_such_memory\""));
  const std::string long_key(5000, 'k');
  for (const std::string& key : {std::string(), std::string("/"), std::string("/../etc/passwd"),
                                 std::string("/a\0b", 4), long_key}) {
    EXPECT_EQ(regions.Register({"r", key, 0, 1}).code(), absl::StatusCode::kInvalidArgument) << key;
  }
}

TEST(SharedMemoryTest, EscapesOddNamesInMessages) {
  SharedMemoryRegions regions;
  const std::string odd = "\x1b[31m\n\"";
  for (const absl::Status& status :
       {regions.Find(odd).status(), regions.Register({odd, "/" + odd, 0, 1})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr("\\x1b[31m\\n\\\""));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\x1b")));
  }
  EXPECT_EQ(regions.Register({"", "/k", 0, 1}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(regions.Register({std::string(5000, 'n'), "/k", 0, 1}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemoryTest, ServesManyThreadsAtOnce) {
  CallersMemory memory(100);
  memory.Put(0, "x");
  SharedMemoryRegions regions;
  std::vector<std::thread> threads;
  std::atomic<int> read = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string name = absl::StrCat("r", t % 2);
      for (int i = 0; i < 200; ++i) {
        (void)regions.Register({name, memory.key(), 0, 100});
        if (auto region = regions.Find(name); region.ok()) {
          EXPECT_EQ((*region)->Read(0, 1).value(), "x");
          ++read;
        }
        regions.Unregister(name);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(read, 0);
  EXPECT_TRUE(regions.Status("").value().empty());
}

}  // namespace
}  // namespace dla::server
