# One OBJECT library per room, all of them linked into librft.so (an OBJECT library keeps every static registration).
# A room sees only what it may include: torch's headers are not on the include path of the torch-free rooms, Python's only
# on that of bindings/. scripts/check_layers.py checks the includes between rooms.

set(RFT_SANITIZE "" CACHE STRING "sanitizers for everything: address,undefined or thread (empty: none)")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers)  # Score{0.5} is how a grade is written
if(RFT_SANITIZE)
  add_compile_options(-fsanitize=${RFT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${RFT_SANITIZE})
endif()

set(RFT_ROOM_TARGETS "")

# rft_room(<name> <folder> [TORCH] DEPENDS <targets...>): library rft_<name> from <folder>/*.cc and its folders' *.cc.
# An empty room is an INTERFACE library, so that a room can exist before its first file.
function(rft_room name folder)
  cmake_parse_arguments(room "TORCH" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc
       ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*/*.cc)
  if(NOT sources)
    add_library(rft_${name} INTERFACE)
    target_include_directories(rft_${name} INTERFACE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(rft_${name} INTERFACE ${room_DEPENDS})
  else()
    add_library(rft_${name} OBJECT ${sources})
    target_include_directories(rft_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(rft_${name} PUBLIC ${room_DEPENDS})
    target_compile_options(rft_${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)  # what ccache needs
    if(room_TORCH)
      target_link_libraries(rft_${name} PUBLIC rft::torch)
      target_precompile_headers(rft_${name} REUSE_FROM rft_torch_pch)
    else()
      target_precompile_headers(rft_${name} REUSE_FROM rft_pch)
    endif()
  endif()
  set(RFT_ROOM_TARGETS ${RFT_ROOM_TARGETS} rft_${name} PARENT_SCOPE)
endfunction()

# rft_precompiled(<target> LINK <targets...> HEADERS <headers...>): one precompiled header for many rooms. Small on purpose: an
# operator or a JSON value is included where it is used. LINK brings no macro that one of the rooms lacks.
function(rft_precompiled target)
  cmake_parse_arguments(pch "" "" "LINK;HEADERS" ${ARGN})
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${target}.cc CONTENT "// holds a precompiled header\n")
  add_library(${target} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/${target}.cc)
  target_include_directories(${target} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${target} PUBLIC ${pch_LINK})
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  target_precompile_headers(${target} PRIVATE
    <algorithm> <cstdint> <functional> <map> <memory> <optional> <string> <string_view> <utility> <vector> ${pch_HEADERS})
endfunction()

# --- Torch-free rooms -----------------------------------------------------------------------------------------------------
rft_precompiled(rft_pch LINK ${RFT_ABSL} HEADERS
  <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/strings/string_view.h>)
rft_room(core    rft/core    DEPENDS ${RFT_ABSL} Threads::Threads)
# Private: spdlog's fmt and the fmt in torch's include folder are different versions, and must not meet.
target_link_libraries(rft_core PRIVATE spdlog::spdlog)
rft_room(io      rft/io      DEPENDS rft_core Boost::headers Boost::json OpenSSL::Crypto)
rft_room(config  rft/config  DEPENDS rft_core rft_io Boost::headers Boost::json yaml-cpp::yaml-cpp)
rft_room(net     rft/net     DEPENDS rft_core rft_io Boost::headers OpenSSL::SSL Threads::Threads)
rft_room(api     rft/api     DEPENDS rft_core)
rft_room(graders graders     DEPENDS rft_api rft_net rft_io rft_config rft_re2 rft_cld2 rft_seccomp SQLite::SQLite3 Boost::headers Boost::json)
rft_room(rollout rollout     DEPENDS rft_api rft_graders rft_io rft_config Boost::headers Boost::json)
# The program that runs inside the sandbox is Python text inside the library: no file to find at run time, none to tamper with.
# Its files are put together into one, without their imports of each other.
set(RFT_SANDBOX_DRIVER "")
foreach(name conversation judge driver)
  set(file ${CMAKE_CURRENT_SOURCE_DIR}/graders/sandbox/${name}.py)
  file(READ ${file} text)
  string(REGEX REPLACE "from (conversation|judge) import [^\n]*\n" "" text "${text}")
  string(APPEND RFT_SANDBOX_DRIVER "${text}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/sandbox_driver.cc @ONLY
     CONTENT "#include \"graders/sandbox/driver.h\"\nnamespace rft {\nconst char kSandboxDriver[] = R\"driver(@RFT_SANDBOX_DRIVER@)driver\";\n}\n")
target_sources(rft_graders PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/sandbox_driver.cc)
rft_room(serve   rft/serve   DEPENDS rft_api rft_io rft_config Boost::headers Boost::json OpenSSL::Crypto)
rft_room(remote  rft/remote  DEPENDS rft_api rft_net rft_io rft_config Boost::headers Boost::json)
set(RFT_TORCH_FREE_ROOMS ${RFT_ROOM_TARGETS})

# --- Torch rooms ------------------------------------------------------------------------------------------------------------
if(RFT_WITH_TORCH)
  rft_precompiled(rft_torch_pch LINK rft::torch rft_core HEADERS <ATen/core/Tensor.h>)

  rft_room(tensor rft/tensor TORCH DEPENDS rft_core)
  rft_room(models rft/models TORCH DEPENDS rft_tensor rft_io rft_config Boost::json)
  rft_room(losses losses     TORCH DEPENDS rft_core)
  rft_room(engine rft/engine TORCH DEPENDS rft_models rft_api rft_remote rft_net rft_config Boost::headers Boost::json)
  rft_room(train  rft/train  TORCH DEPENDS rft_losses rft_models rft_api rft_config Boost::json)
  rft_room(run    rft/run    TORCH DEPENDS rft_engine rft_train rft_rollout rft_graders)

  # CPU kernels: one implementation, compiled once per instruction set, chosen at run time. The products keep their order
  # (-ffp-contract=off: fused multiply-adds only where the code says so), or rows would depend on the compiler's mood. They throw
  # nothing, and no handler's symbol is shared with other files.
  # GCC 12's own AVX-512 headers trip -Wmaybe-uninitialized.
  set(rft_kernel_flags -O3 -ffp-contract=off -fno-math-errno -fno-exceptions -Wno-maybe-uninitialized -Wno-uninitialized -Wno-unused-function)
  set(rft_avx512_flags -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mavx2 -mf16c -mprefer-vector-width=512)
  set(rft_kernel_isa_avx512bf16 ${rft_avx512_flags} -mavx512bf16)
  set(rft_kernel_isa_amx ${rft_kernel_isa_avx512bf16} -mamx-tile -mamx-bf16)
  set(rft_kernel_isa_avx512 ${rft_avx512_flags})
  set(rft_kernel_isa_avx2 -mavx2 -mfma -mf16c)
  set(rft_kernel_isa_portable "")
  foreach(isa amx avx512bf16 avx512 avx2 portable)
    set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/rft/tensor/kernels_${isa}.cc PROPERTIES
      COMPILE_OPTIONS "${rft_kernel_flags};${rft_kernel_isa_${isa}}" SKIP_PRECOMPILE_HEADERS ON)
  endforeach()

  # Its loops become vector instructions only if both sides of a choice may be computed.
  set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/losses/fused_clip_kernel.cc PROPERTIES
    COMPILE_OPTIONS "-fno-trapping-math" SKIP_PRECOMPILE_HEADERS ON)
endif()

# --- librft.so ----------------------------------------------------------------------------------------------------------------
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/rft_version.cc
     CONTENT "extern \"C\" const char* rft_version() { return \"${PROJECT_VERSION}\"; }\n")
add_library(rft SHARED ${CMAKE_CURRENT_BINARY_DIR}/rft_version.cc)
add_library(rft::rft ALIAS rft)
target_link_libraries(rft PRIVATE ${RFT_ROOM_TARGETS})
target_link_libraries(rft PUBLIC ${RFT_ABSL} Boost::headers Boost::json Threads::Threads)
target_include_directories(rft PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/rft>)
set_target_properties(rft PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
if(RFT_WITH_TORCH)
  target_link_libraries(rft PUBLIC rft::torch)
endif()
# Where binaries find librft.so and torch. A wheel's are relative (cmake/RftPython.cmake).
set(RFT_BUILD_RPATH ${CMAKE_CURRENT_BINARY_DIR} ${RFT_TORCH_LIB_DIR} ${RFT_TORCH_OPENMP_DIR})
set_target_properties(rft PROPERTIES BUILD_RPATH "${RFT_BUILD_RPATH}" INSTALL_RPATH "$ORIGIN;${RFT_TORCH_LIB_DIR};${RFT_TORCH_OPENMP_DIR}")

if(RFT_WITH_TORCH AND RFT_BUILD_PYTHON)
  include(RftPython)
endif()
include(RftInstall)
