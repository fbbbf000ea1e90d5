# OpenCV's core module as opencv::core. Debian ships OpenCVConfig.cmake only with libopencv-dev, which
# pulls in all modules and a hundred libraries; turning pictures needs no more than this one.
find_path(OPENCV_INCLUDE_DIR opencv2/core.hpp PATH_SUFFIXES opencv4 REQUIRED)
find_library(OPENCV_CORE opencv_core REQUIRED)

add_library(opencv_core_only INTERFACE)
add_library(opencv::core ALIAS opencv_core_only)
target_include_directories(opencv_core_only SYSTEM INTERFACE "${OPENCV_INCLUDE_DIR}")
target_link_libraries(opencv_core_only INTERFACE "${OPENCV_CORE}")
