# `cmake --install build/release --prefix P`: programs, those libraries of LibTorch's wheels that they need, manual
# pages, shell completion, an example configuration and a systemd unit. The folder P may be moved as a whole.
# The component "debian" is what only the Debian package has, "local" what only other installations have. "cuda" is not
# part of an installation unless it is asked for: what libdla_cuda.so needs, 2.6 GB that script/bootstrap --cuda fetches.
#   cmake --install build/release --prefix P --component cuda --strip
include(GNUInstallDirs)
set(docs "${CMAKE_INSTALL_DATADIR}/doc/dla-serve")
set(private_libraries "lib/dla-serve")

# Manual page and completion come out of the program's own table of options.
function(dla_install_program program)
  set(dir "${PROJECT_BINARY_DIR}/generated/${program}")
  file(MAKE_DIRECTORY "${dir}")
  add_custom_command(
    OUTPUT "${dir}/${program}.1.gz" "${dir}/bash" "${dir}/zsh" "${dir}/fish"
    COMMAND sh -ec "for what in man bash zsh fish; do \"$0\" --generate $what >$what; done; gzip -9n <man >${program}.1.gz"
      "$<TARGET_FILE:${program}>"
    WORKING_DIRECTORY "${dir}"
    DEPENDS ${program}
    VERBATIM)
  add_custom_target(${program}-generated ALL DEPENDS "${dir}/${program}.1.gz")
  install(TARGETS ${program} RUNTIME COMPONENT product)
  install(FILES "${dir}/${program}.1.gz" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT product)
  install(FILES "${dir}/bash" RENAME ${program} COMPONENT product
    DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
  install(FILES "${dir}/fish" RENAME ${program}.fish COMPONENT product
    DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
  install(FILES "${dir}/zsh" RENAME _${program} COMPONENT local
    DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
  install(FILES "${dir}/zsh" RENAME _${program} COMPONENT debian EXCLUDE_FROM_ALL
    DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions")
endfunction()

# dla_install_libraries(COMPONENT FOLDER FILE...) keeps the folders of the wheels: their libraries find each other by RPATHs
# such as $ORIGIN/../../nvidia/cu13/lib.
function(dla_install_libraries component folder)
  list(TRANSFORM ARGN PREPEND "${DLA_LIBTORCH_ROOT}/${folder}/" OUTPUT_VARIABLE files)
  set(only "")
  if(component STREQUAL "cuda")
    set(only EXCLUDE_FROM_ALL)
  endif()
  install(FILES ${files} DESTINATION "${private_libraries}/${folder}" COMPONENT ${component} ${only})
endfunction()

# A fifth of LibTorch's libraries is a table of names that nothing reads. NVIDIA's may not be changed.
function(dla_strip_library component library)
  set(only "")
  if(component STREQUAL "cuda")
    set(only EXCLUDE_FROM_ALL)
  endif()
  install(CODE "
    if(CMAKE_INSTALL_DO_STRIP)
      execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-unneeded
        \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${private_libraries}/torch/lib/${library}\" COMMAND_ERROR_IS_FATAL ANY)
    endif()" COMPONENT ${component} ${only})
endfunction()

dla_install_program(dla-client)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION "${docs}" COMPONENT product)

if(DLA_WITH_LIBTORCH)
  set_target_properties(dla-server PROPERTIES INSTALL_RPATH "$ORIGIN/../${private_libraries}/torch/lib")
  dla_install_program(dla-server)
  set_target_properties(dla-quantize PROPERTIES INSTALL_RPATH "$ORIGIN/../${private_libraries}/torch/lib")
  dla_install_program(dla-quantize)
  dla_install_libraries(product torch/lib libtorch_cpu.so libc10.so libgomp.so.1)
  dla_install_libraries(product nvidia/cu13/lib libcudart.so.13 libcupti.so.13)
  dla_strip_library(product libtorch_cpu.so)
  if(TARGET dla_cuda)
    set_target_properties(dla_cuda PROPERTIES INSTALL_RPATH "$ORIGIN/torch/lib;$ORIGIN/nvidia/cu13/lib;$ORIGIN/nvidia/cudnn/lib")
    install(TARGETS dla_cuda LIBRARY DESTINATION "${private_libraries}" COMPONENT product)
  endif()

  # What libtorch_cuda.so is linked to; the parts of cuDNN and NVRTC that are opened when they are used; nvJPEG.
  dla_install_libraries(cuda torch/lib libtorch_cuda.so libc10_cuda.so libtorch_nvshmem.so libcaffe2_nvrtc.so)
  dla_install_libraries(cuda nvidia/cu13/lib libcublas.so.13 libcublasLt.so.13 libcufft.so.12 libcufile.so.0 libcurand.so.10
    libcusparse.so.12 libnvJitLink.so.13 libnvjpeg.so.13 libnvrtc.so.13 libnvrtc-builtins.so.13.0)
  dla_install_libraries(cuda nvidia/cudnn/lib libcudnn.so.9 libcudnn_adv.so.9 libcudnn_cnn.so.9 libcudnn_engines_precompiled.so.9
    libcudnn_engines_runtime_compiled.so.9 libcudnn_graph.so.9 libcudnn_heuristic.so.9 libcudnn_ops.so.9)
  dla_install_libraries(cuda nvidia/cusparselt/lib libcusparseLt.so.0)
  dla_install_libraries(cuda nvidia/nccl/lib libnccl.so.2)
  dla_install_libraries(cuda nvidia/nvshmem/lib libnvshmem_host.so.3)
  dla_strip_library(cuda libtorch_cuda.so)
  install(FILES "${DLA_LIBTORCH_ROOT}/nvidia/cusparselt/LICENSE.txt" DESTINATION "${docs}/nvidia_cusparselt_cu13"
    COMPONENT cuda EXCLUDE_FROM_ALL)

  file(GLOB wheels RELATIVE "${DLA_LIBTORCH_ROOT}" CONFIGURE_DEPENDS "${DLA_LIBTORCH_ROOT}/*.dist-info/licenses")
  foreach(licences IN LISTS wheels)
    string(REGEX REPLACE "-.*" "" wheel "${licences}")
    if(wheel MATCHES "^(torch|nvidia_cuda_runtime|nvidia_cuda_cupti)$")
      install(DIRECTORY "${DLA_LIBTORCH_ROOT}/${licences}/" DESTINATION "${docs}/${wheel}" COMPONENT product)
    else()
      install(DIRECTORY "${DLA_LIBTORCH_ROOT}/${licences}/" DESTINATION "${docs}/${wheel}" COMPONENT cuda EXCLUDE_FROM_ALL)
    endif()
  endforeach()

  install(FILES deploy/systemd/dla-server.yaml DESTINATION "${docs}" COMPONENT local)
  install(FILES deploy/systemd/dla-server.yaml DESTINATION /etc/dla-serve COMPONENT debian EXCLUDE_FROM_ALL)
  install(FILES deploy/systemd/dla-server.service DESTINATION lib/systemd/system
    COMPONENT debian EXCLUDE_FROM_ALL)
  install(FILES deploy/debian/copyright DESTINATION "${docs}" COMPONENT debian EXCLUDE_FROM_ALL)
  install(CODE "
    file(READ \"${PROJECT_SOURCE_DIR}/deploy/systemd/dla-server.service\" unit)
    string(REPLACE /usr/bin/ \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/\" unit \"\${unit}\")
    file(WRITE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/dla-server.service\" \"\${unit}\")" COMPONENT local)
endif()
