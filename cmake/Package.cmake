# `cpack --config build/release/CPackConfig.cmake` makes a Debian package of what Install.cmake installs.
set(DLA_PACKAGE_MAINTAINER "dla-serve authors <root@localhost>" CACHE STRING "Name and address in the Debian package")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME dla-serve)
set(CPACK_PACKAGE_VENDOR dla-serve)
set(CPACK_PACKAGE_CONTACT "${DLA_PACKAGE_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "A server that classifies photos (JPEG, PNG, WebP) with the 12 DLA networks of
timm, straight from timm's model folders, and a client for the command line.
LibTorch is included.")
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_BINARY_DIR}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)

set(CPACK_COMPONENTS_ALL product debian)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEB_COMPONENT_INSTALL ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${DLA_LIBTORCH_ROOT}/torch/lib" "${DLA_LIBTORCH_ROOT}/nvidia/cu13/lib")
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)  # xz takes minutes for LibTorch
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${PROJECT_SOURCE_DIR}/deploy/debian/conffiles" "${PROJECT_SOURCE_DIR}/deploy/debian/postinst"
  "${PROJECT_SOURCE_DIR}/deploy/debian/prerm" "${PROJECT_SOURCE_DIR}/deploy/debian/postrm")
include(CPack)
