// One step of a replica's ladder.
#pragma once

#include <ATen/cuda/CUDAGraph.h>

#include "model/cuda/cuda_network.h"

namespace dla::cuda {

// The network for so many photos. What it puts out stays as it is until the next replay, of this
// graph alone: the tensors are kept, so no other graph of the pool takes their memory.
struct CudaReplica::Graph {
  at::cuda::CUDAGraph graph;
  at::Tensor input;  // the first photos of the replica's
  AtenNetwork::Features features;
  at::Tensor top_indices;        // int32 [photos, k]
  at::Tensor top_probabilities;  // float32 [photos, k]
};

}  // namespace dla::cuda
