# `cmake --install`: headers, librft.so and the package for find_package(rft). tests/consumer builds against the result.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(rft_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/rft)

install(TARGETS rft EXPORT rftTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(DIRECTORY rft graders losses rollout DESTINATION include/rft COMPONENT development FILES_MATCHING PATTERN "*.h")
install(EXPORT rftTargets NAMESPACE rft:: DESTINATION ${rft_cmake_dir} COMPONENT development)

configure_package_config_file(${CMAKE_CURRENT_SOURCE_DIR}/cmake/rftConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/rftConfig.cmake
  INSTALL_DESTINATION ${rft_cmake_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/rftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rftConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/rftConfigVersion.cmake
              ${CMAKE_CURRENT_SOURCE_DIR}/cmake/RftTorch.cmake
        DESTINATION ${rft_cmake_dir} COMPONENT development)
