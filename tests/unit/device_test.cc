#include "model/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dla {
namespace {

using Kind = DeviceChoice::Kind;
using ::testing::HasSubstr;

TEST(DeviceTest, ReadsWhatUsersWrite) {
  EXPECT_EQ(*ParseDevice("auto"), (DeviceChoice{Kind::kAuto}));
  EXPECT_EQ(*ParseDevice("cpu"), (DeviceChoice{Kind::kCpu}));
  EXPECT_EQ(*ParseDevice("cuda"), (DeviceChoice{Kind::kCuda}));
  EXPECT_EQ(*ParseDevice("cuda:0"), (DeviceChoice{Kind::kCuda, {0}}));
  EXPECT_EQ(*ParseDevice("cuda:2,0,11"), (DeviceChoice{Kind::kCuda, {2, 0, 11}}));
}

TEST(DeviceTest, RefusesTheRestAndSaysWhatThereIs) {
  for (const char* text :
       {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:1,", "cuda:,1",
        "cuda:1,1", "cuda:0x1", "cuda:99999999999", "cuda1", "cpu:0"}) {
    const absl::Status status = ParseDevice(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr("is not auto, cpu, cuda, cuda:N or cuda:N,M"));
  }
}

TEST(DeviceTest, NamesCards) {
  EXPECT_EQ(CudaDeviceName({1}), "cuda:1");
  EXPECT_EQ(CudaDeviceName({0, 2}), "cuda:0,2");
}

}  // namespace
}  // namespace dla
