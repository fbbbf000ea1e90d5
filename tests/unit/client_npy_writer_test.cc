#include "client/npy_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::client {
namespace {

using ::dla::testing::ReadFile;
using ::dla::testing::Subprocess;
using ::dla::testing::TempDir;
using ::testing::HasSubstr;
using ::testing::StartsWith;

int FilesIn(const TempDir& dir) {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.Path()))
    ++count;
  return count;
}

TEST(NpyWriterTest, WritesHeaderAndRows) {
  TempDir dir;
  auto writer = NpyWriter::Create(dir.Path("x.npy"));
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->AppendRow({1.0f, -2.5f, 3e-8f}).ok());
  ASSERT_TRUE(writer->AppendRow({4, 5, 6}).ok());
  ASSERT_TRUE(writer->Commit().ok());
  const std::string bytes = ReadFile(dir.Path("x.npy"));
  ASSERT_EQ(bytes.size(), 128 + 6 * sizeof(float));
  EXPECT_THAT(bytes, StartsWith(std::string("\x93NUMPY\x01\x00\x76\x00", 10) +
                                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  "));
  EXPECT_EQ(bytes[127], '\n');
  std::vector<float> values(6);
  std::memcpy(values.data(), bytes.data() + 128, 6 * sizeof(float));
  EXPECT_EQ(values, (std::vector<float>{1.0f, -2.5f, 3e-8f, 4, 5, 6}));
  EXPECT_EQ(FilesIn(dir), 1);
}

TEST(NpyWriterTest, HeaderHasTheSameSizeForAnyShape) {
  EXPECT_EQ(NpyHeader(1, 1).size(), 128u);
  EXPECT_EQ(NpyHeader(~uint64_t{0}, ~uint64_t{0}).size(), 128u);
  EXPECT_THAT(NpyHeader(~uint64_t{0}, ~uint64_t{0}),
              HasSubstr("(18446744073709551615, 18446744073709551615), }"));
}

// With enough rows that the buffer is written out several times before the header is known.
TEST(NpyWriterTest, NumPyReadsWhatItWrites) {
  const std::string find = "import numpy";
  auto probe = *Subprocess::Start({.command = {DLA_TEST_PYTHON, "-c", find}});
  if (*probe->Wait() != 0) GTEST_SKIP() << "no numpy for " DLA_TEST_PYTHON "";
  TempDir dir;
  auto writer = NpyWriter::Create(dir.Path("x.npy"));
  std::vector<float> row(512);
  for (int i = 0; i < 3000; ++i) {
    for (size_t k = 0; k < row.size(); ++k)
      row[k] = static_cast<float>(i) + static_cast<float>(k) / 1024;
    ASSERT_TRUE(writer->AppendRow(row).ok());
  }
  ASSERT_TRUE(writer->Commit().ok());
  auto check = *Subprocess::Start({.command = {DLA_TEST_PYTHON, "-c", R"(
import numpy, sys
x = numpy.load(sys.argv[1], allow_pickle=False)
y = numpy.arange(3000)[:, None] + numpy.arange(512)[None, :] / 1024
assert x.dtype == numpy.float32 and x.shape == (3000, 512) and x.flags.c_contiguous, (x.dtype, x.shape)
assert (x == y.astype(numpy.float32)).all()
print("same")
)",
                                               dir.Path("x.npy")}});
  EXPECT_EQ(*check->Wait(), 0) << check->errors();
  EXPECT_EQ(check->output(), "same\n");
}

TEST(NpyWriterTest, RefusesARowOfAnotherLengthAndGoesOn) {
  TempDir dir;
  auto writer = NpyWriter::Create(dir.Path("x.npy"));
  EXPECT_EQ(writer->AppendRow({}).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(writer->AppendRow({1, 2}).ok());
  const absl::Status status = writer->AppendRow({1, 2, 3});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 values where the first has 2"));
  ASSERT_TRUE(writer->AppendRow({3, 4}).ok());
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_THAT(ReadFile(dir.Path("x.npy")), HasSubstr("'shape': (2, 2)"));
}

TEST(NpyWriterTest, LeavesNothingBehindUnlessCommitted) {
  TempDir dir;
  dir.Write("x.npy", "older");
  {
    auto writer = NpyWriter::Create(dir.Path("x.npy"));
    ASSERT_TRUE(writer->AppendRow({1, 2}).ok());
    EXPECT_EQ(FilesIn(dir), 2);
  }
  EXPECT_EQ(FilesIn(dir), 1);
  EXPECT_EQ(ReadFile(dir.Path("x.npy")), "older");
}

TEST(NpyWriterTest, RefusesToCommitAnEmptyMatrix) {
  TempDir dir;
  {
    auto writer = NpyWriter::Create(dir.Path("x.npy"));
    EXPECT_EQ(writer->Commit().code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(FilesIn(dir), 0);
}

TEST(NpyWriterTest, NamesTheFileThatCannotBeWritten) {
  TempDir dir;
  for (const std::string& path : {dir.Path("no/x.npy"), dir.Path()}) {
    const absl::Status status = NpyWriter::Create(path).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
  }
}

TEST(AtomicFileTest, TakesTheUsersMask) {
  TempDir dir;
  const mode_t before = umask(027);
  auto file = cli::AtomicFile::Create(dir.Path("x"));
  umask(before);
  ASSERT_TRUE(file->Append("hello").ok());
  ASSERT_TRUE(file->Commit().ok());
  struct stat info;
  ASSERT_EQ(stat(dir.Path("x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

}  // namespace
}  // namespace dla::client
