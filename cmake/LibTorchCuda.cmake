# LibTorch's CUDA half out of the same wheel. What its libraries need in turn (cuDNN, cuBLAS, ...) is looked for when
# the program runs, not when it is linked: script/bootstrap --cuda installs it.
add_library(libtorch_cuda INTERFACE)
add_library(LibTorch::Cuda ALIAS libtorch_cuda)
target_compile_options(libtorch_cuda INTERFACE "SHELL:-idirafter ${DLA_LIBTORCH_ROOT}/nvidia/cu13/include")
# Loading libtorch_cuda.so is what registers its operations, whether or not anything refers to it by name.
target_link_libraries(libtorch_cuda INTERFACE LibTorch::LibTorch
  "-Wl,--push-state,--no-as-needed" "${DLA_LIBTORCH_ROOT}/torch/lib/libtorch_cuda.so" "-Wl,--pop-state"
  "${DLA_LIBTORCH_ROOT}/torch/lib/libc10_cuda.so" "${DLA_LIBTORCH_ROOT}/nvidia/cu13/lib/libcudart.so.13")
target_link_options(libtorch_cuda INTERFACE "LINKER:--allow-shlib-undefined")
