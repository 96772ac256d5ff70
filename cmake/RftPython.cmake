# rft._rft: the compiled half of the Python package, from bindings/*.cc.
#
# With -DRFT_PYTHON_IN_SOURCE=ON (the presets `release` and `dev`) it is written into bindings/python/rft/, which a .pth
# file puts on .venv's path (scripts/setup.sh): one incremental ninja, and `import rft` sees the new code.
# Otherwise it goes to <build>/python/rft/; under scikit-build-core (pip install .) it is installed into the wheel.
option(RFT_PYTHON_IN_SOURCE "write the extension into bindings/python/rft" OFF)

file(GLOB rft_binding_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/bindings/*.cc)
if(NOT rft_binding_sources)
  return()
endif()
if(RFT_PYTHON_IN_SOURCE)
  set(rft_python_output ${CMAKE_CURRENT_SOURCE_DIR}/bindings/python/rft)
else()
  set(rft_python_output ${CMAKE_CURRENT_BINARY_DIR}/python/rft)
endif()

# pybind11 is the one inside torch's include folder: the same version on both sides of a shared type.
Python_add_library(_rft MODULE WITH_SOABI ${rft_binding_sources})
target_link_libraries(_rft PRIVATE rft rft::torch_python)
# No -fvisibility=hidden (pybind11's advice): it would give the extension its own, empty copy of every registry.
target_compile_options(_rft PRIVATE -Wno-attributes $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
target_precompile_headers(_rft PRIVATE <pybind11/pybind11.h> <pybind11/numpy.h> <pybind11/stl.h> <map> <memory> <string> <vector>)
set_target_properties(_rft PROPERTIES
  LIBRARY_OUTPUT_DIRECTORY ${rft_python_output}
  BUILD_RPATH "${RFT_BUILD_RPATH}"
  INSTALL_RPATH "$ORIGIN/lib;$ORIGIN/../torch/lib;$ORIGIN/../torch.libs")

if(SKBUILD)
  # A wheel has no symbolic links: one file name for librft.so, or it would be there twice.
  set_target_properties(rft PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/../../torch/lib;$ORIGIN/../../torch.libs"
                                       VERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  install(TARGETS _rft LIBRARY DESTINATION rft COMPONENT python)
  install(TARGETS rft LIBRARY DESTINATION rft/lib COMPONENT python NAMELINK_SKIP)
endif()

include(RftPythonText)
