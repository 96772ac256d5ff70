# rft::torch: LibTorch as pip installs it. Used by our own build and, installed beside rftConfig.cmake, by consumers.
#
# In:  RFT_TORCH_DIR (the wheel's torch/ folder), or Python_EXECUTABLE: the interpreter whose torch is used.
# Out: rft::torch        headers, libtorch, the -fopenmp compile flag, and the OpenMP runtime that torch itself loads
#      rft::torch_python the same plus libtorch_python (linked only where a symbol of it is used)
#      RFT_TORCH_DIR, RFT_TORCH_LIB_DIR, RFT_TORCH_VERSION
#
# Why not find_package(Torch): the wheel's own config asks for a CUDA toolkit when the wheel was built for CUDA, and links
# the system's OpenMP runtime. Two OpenMP runtimes in one process mean two thread pools that fight for the cores.
if(TARGET rft::torch)
  return()
endif()

if(NOT RFT_TORCH_DIR)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE RFT_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_VARIABLE rft_torch_error RESULT_VARIABLE rft_torch_result)
  if(NOT rft_torch_result EQUAL 0 OR NOT RFT_TORCH_DIR)
    message(FATAL_ERROR
      "rft: no torch in ${Python_EXECUTABLE} ${rft_torch_error}\n"
      "  Run scripts/setup.sh (makes .venv with torch 2.13.0), or give -DPython_EXECUTABLE=<a Python that has torch>, "
      "or -DRFT_TORCH_DIR=<site-packages/torch>.")
  endif()
endif()
set(RFT_TORCH_LIB_DIR "${RFT_TORCH_DIR}/lib")

foreach(needed lib/libtorch.so lib/libtorch_cpu.so lib/libc10.so include/ATen/core/Tensor.h include/pybind11/pybind11.h)
  if(NOT EXISTS "${RFT_TORCH_DIR}/${needed}")
    message(FATAL_ERROR "rft: ${RFT_TORCH_DIR} has no ${needed}: not a complete torch wheel. Reinstall it: pip install --force-reinstall torch==2.13.0")
  endif()
endforeach()

file(STRINGS "${RFT_TORCH_DIR}/version.py" rft_torch_version_line REGEX "^__version__")
string(REGEX REPLACE ".*['\"]([^'\"]+)['\"].*" "\\1" RFT_TORCH_VERSION "${rft_torch_version_line}")

# The wheel's OpenMP runtime: torch/lib/libgomp*.so*, or torch.libs/ beside it in wheels repaired by auditwheel.
file(GLOB rft_torch_openmp "${RFT_TORCH_LIB_DIR}/libgomp*.so*" "${RFT_TORCH_DIR}/../torch.libs/libgomp*.so*")
list(LENGTH rft_torch_openmp rft_torch_openmp_count)
if(rft_torch_openmp_count EQUAL 0)
  message(FATAL_ERROR "rft: no libgomp in ${RFT_TORCH_LIB_DIR}: this torch brings no OpenMP runtime to share")
endif()
list(GET rft_torch_openmp 0 rft_torch_openmp)
get_filename_component(RFT_TORCH_OPENMP_DIR "${rft_torch_openmp}" DIRECTORY)

add_library(rft::torch INTERFACE IMPORTED)
set_target_properties(rft::torch PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${RFT_TORCH_DIR}/include;${RFT_TORCH_DIR}/include/torch/csrc/api/include"
  INTERFACE_COMPILE_DEFINITIONS "AT_PER_OPERATOR_HEADERS"
  INTERFACE_COMPILE_OPTIONS "-fopenmp"
  # libtorch.so is empty but pulls in libtorch_cuda where the wheel has it; --as-needed would drop it.
  INTERFACE_LINK_LIBRARIES "-Wl,--push-state,--no-as-needed,${RFT_TORCH_LIB_DIR}/libtorch.so,--pop-state;${RFT_TORCH_LIB_DIR}/libtorch_cpu.so;${RFT_TORCH_LIB_DIR}/libc10.so;${rft_torch_openmp}")

add_library(rft::torch_python INTERFACE IMPORTED)
set_target_properties(rft::torch_python PROPERTIES
  INTERFACE_LINK_LIBRARIES "rft::torch;-Wl,--push-state,--as-needed,${RFT_TORCH_LIB_DIR}/libtorch_python.so,--pop-state")
