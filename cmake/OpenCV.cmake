# OpenCV's core and imgproc as opencv::imgproc. Debian ships OpenCVConfig.cmake only with libopencv-dev,
# which pulls in all modules and a hundred libraries; the two modules need no more than this.
find_path(OPENCV_INCLUDE_DIR opencv2/core.hpp PATH_SUFFIXES opencv4 REQUIRED)
find_library(OPENCV_CORE opencv_core REQUIRED)
find_library(OPENCV_IMGPROC opencv_imgproc REQUIRED)

add_library(opencv_imgproc_only INTERFACE)
add_library(opencv::imgproc ALIAS opencv_imgproc_only)
target_include_directories(opencv_imgproc_only SYSTEM INTERFACE "${OPENCV_INCLUDE_DIR}")
target_link_libraries(opencv_imgproc_only INTERFACE "${OPENCV_IMGPROC}" "${OPENCV_CORE}")
