include_guard(GLOBAL)
# LibTorch out of the PyPI wheel as an imported target. The wheel's own find_package(Torch) insists
# on a CUDA toolkit. Its include folder also ships old protobuf headers, hence -idirafter.
if(NOT EXISTS "${DLA_LIBTORCH_ROOT}/torch/lib/libtorch_cpu.so")
  message(FATAL_ERROR "No LibTorch in ${DLA_LIBTORCH_ROOT}: run script/bootstrap, or set DLA_LIBTORCH_ROOT to the folder that holds torch/")
endif()
set(torch "${DLA_LIBTORCH_ROOT}/torch")
set(cuda "${DLA_LIBTORCH_ROOT}/nvidia/cu13/lib")

add_library(libtorch INTERFACE)
add_library(LibTorch::LibTorch ALIAS libtorch)
target_compile_options(libtorch INTERFACE "SHELL:-idirafter ${torch}/include")
target_link_libraries(libtorch INTERFACE "${torch}/lib/libtorch_cpu.so" "${torch}/lib/libc10.so")
# libtorch_cpu.so finds libcudart and libcupti through its own RPATH; the linker has to be told.
target_link_options(libtorch INTERFACE "LINKER:-rpath-link,${cuda}" "LINKER:-rpath-link,${torch}/lib")
