# The kernels that are compiled when the server starts, and what launches them. Needs neither CUDA nor LibTorch.
add_library(dla_pixel_kernels STATIC
  cuda/nvjpeg_api.cc cuda/nvjpeg_lane.cc cuda/dynamic_library.cc cuda/nvrtc.cc cuda/pixel_kernels.cc)
add_library(dla::pixel_kernels ALIAS dla_pixel_kernels)
dla_embed_file(dla_pixel_kernels dla_pixel_kernels_source cuda/pixel_kernels.cu)
target_link_libraries(dla_pixel_kernels PUBLIC dla::model_formats PRIVATE dla::warnings ${CMAKE_DL_LIBS})

# The same on a card, for the tests: without libtorch_cuda.so, which does not load where there is no driver.
if(DLA_WITH_LIBTORCH)
  include(LibTorch)
  add_library(dla_device_kernels STATIC EXCLUDE_FROM_ALL cuda/device_kernels.cc cuda/device_status.cc cuda/kernel_module.cc
    cuda/nvjpeg_decoder.cc)
  add_library(dla::device_kernels ALIAS dla_device_kernels)
  target_compile_options(dla_device_kernels PUBLIC "SHELL:-idirafter ${DLA_LIBTORCH_ROOT}/nvidia/cu13/include")
  target_link_libraries(dla_device_kernels
    PUBLIC dla::pixel_kernels LibTorch::LibTorch "${DLA_LIBTORCH_ROOT}/nvidia/cu13/lib/libcudart.so.13" PRIVATE dla::warnings)
endif()
