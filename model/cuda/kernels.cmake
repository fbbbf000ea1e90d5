# The kernels that are compiled when the server starts, and what launches them. Needs neither CUDA nor LibTorch.
add_library(dla_pixel_kernels STATIC cuda/nvrtc.cc cuda/pixel_kernels.cc gpu/resize_plan.cc)
add_library(dla::pixel_kernels ALIAS dla_pixel_kernels)
dla_embed_file(dla_pixel_kernels dla_pixel_kernels_source cuda/pixel_kernels.cu)
target_link_libraries(dla_pixel_kernels PUBLIC dla::model_formats PRIVATE dla::warnings ${CMAKE_DL_LIBS})
