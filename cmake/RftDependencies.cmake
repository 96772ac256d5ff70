# Everything rft builds against. Nothing is downloaded: system packages (scripts/setup.sh installs them) and the torch
# of one Python environment.

# --- Python: .venv at the project's root unless told otherwise (-DPython_EXECUTABLE=...). ------------------------------
if(NOT Python_EXECUTABLE AND EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/.venv/bin/python")
  set(Python_EXECUTABLE "${CMAKE_CURRENT_SOURCE_DIR}/.venv/bin/python" CACHE FILEPATH "the Python whose torch is used")
endif()
set(rft_python_components Interpreter)
if(RFT_BUILD_PYTHON AND RFT_WITH_TORCH)
  list(APPEND rft_python_components Development.Module)
endif()
find_package(Python 3.10 REQUIRED COMPONENTS ${rft_python_components})

# --- LibTorch ---------------------------------------------------------------------------------------------------------
if(RFT_WITH_TORCH)
  include(RftTorch)
  message(STATUS "rft: torch ${RFT_TORCH_VERSION} in ${RFT_TORCH_DIR}")
endif()

# --- System packages ----------------------------------------------------------------------------------------------------
# Says which Debian package brings a missing one.
macro(rft_find package debian_package)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "rft: ${package} not found. Run scripts/setup.sh, or: apt-get install ${debian_package}")
  endif()
endmacro()

find_package(Threads REQUIRED)
set(Boost_USE_STATIC_LIBS OFF)
rft_find(Boost libboost-json1.81-dev 1.81 CONFIG COMPONENTS headers json)
rft_find(absl libabsl-dev CONFIG)
rft_find(yaml-cpp libyaml-cpp-dev CONFIG)
rft_find(spdlog libspdlog-dev CONFIG)
rft_find(OpenSSL libssl-dev)
rft_find(SQLite3 libsqlite3-dev)
if(RFT_BUILD_TESTS)
  rft_find(GTest libgmock-dev CONFIG)
endif()
if(NOT TARGET yaml-cpp::yaml-cpp)  # the name since yaml-cpp 0.8
  add_library(yaml-cpp::yaml-cpp INTERFACE IMPORTED)
  target_link_libraries(yaml-cpp::yaml-cpp INTERFACE yaml-cpp)
endif()

# RE2 ships a CMake package only in newer releases.
find_path(RFT_RE2_INCLUDE_DIR re2/re2.h)
find_library(RFT_RE2_LIBRARY re2)
if(NOT RFT_RE2_INCLUDE_DIR OR NOT RFT_RE2_LIBRARY)
  message(FATAL_ERROR "rft: RE2 not found. Run scripts/setup.sh, or: apt-get install libre2-dev")
endif()
add_library(rft_re2 INTERFACE IMPORTED)
target_link_libraries(rft_re2 INTERFACE ${RFT_RE2_LIBRARY})
if(NOT RFT_RE2_INCLUDE_DIR STREQUAL "/usr/include")
  target_include_directories(rft_re2 INTERFACE ${RFT_RE2_INCLUDE_DIR})
endif()

# CLD2 has no CMake package.
find_path(RFT_CLD2_INCLUDE_DIR cld2/public/compact_lang_det.h)
find_library(RFT_CLD2_LIBRARY cld2)
if(NOT RFT_CLD2_INCLUDE_DIR OR NOT RFT_CLD2_LIBRARY)
  message(FATAL_ERROR "rft: CLD2 not found. Run scripts/setup.sh, or: apt-get install libcld2-dev")
endif()
add_library(rft_cld2 INTERFACE IMPORTED)
target_link_libraries(rft_cld2 INTERFACE ${RFT_CLD2_LIBRARY})
if(NOT RFT_CLD2_INCLUDE_DIR STREQUAL "/usr/include")
  target_include_directories(rft_cld2 INTERFACE ${RFT_CLD2_INCLUDE_DIR})
endif()

# libseccomp has no CMake package.
find_path(RFT_SECCOMP_INCLUDE_DIR seccomp.h)
find_library(RFT_SECCOMP_LIBRARY seccomp)
if(NOT RFT_SECCOMP_INCLUDE_DIR OR NOT RFT_SECCOMP_LIBRARY)
  message(FATAL_ERROR "rft: libseccomp not found. Run scripts/setup.sh, or: apt-get install libseccomp-dev")
endif()
add_library(rft_seccomp INTERFACE IMPORTED)
target_link_libraries(rft_seccomp INTERFACE ${RFT_SECCOMP_LIBRARY})

set(RFT_ABSL absl::status absl::statusor absl::strings absl::str_format absl::time absl::flat_hash_map
             absl::synchronization absl::cord absl::span)

# --- Tools that make builds quicker, when present -----------------------------------------------------------------------
find_program(RFT_CCACHE ccache)
if(RFT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # ccache refuses precompiled headers unless told that these differences do not matter.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${RFT_CCACHE})
endif()
find_program(RFT_MOLD mold)
if(RFT_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
