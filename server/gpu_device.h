// A GPU as the server names it.
#pragma once

#include <string>

namespace dla::server {

struct GpuDevice {
  std::string label;       // the index that CUDA and our log use, "0"
  std::string pci_bus_id;  // "0000:3b:00.0": CUDA and NVML number GPUs differently
};

}  // namespace dla::server
