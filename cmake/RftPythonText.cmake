# rft::python_text: LoadPythonCodec (bindings/python_text.h) for C++ programs: a Python interpreter in the process, for chat
# templates and tokenizers only. A library of its own, so that librft.so needs no libpython.
#
# The interpreter is the build's (Python_EXECUTABLE) unless the environment variable RFT_PYTHON names another at run time.
find_package(Python QUIET COMPONENTS Interpreter Development.Module Development.Embed)
if(NOT Python_Development.Embed_FOUND)
  message(STATUS "rft: no libpython to embed, so no rft::python_text for C++ programs (apt-get install libpython3-dev)")
  return()
endif()

add_library(rft_python_text SHARED bindings/python_text.cc bindings/python_codec.cc bindings/python_grammar.cc
  bindings/errors.cc)
add_library(rft::python_text ALIAS rft_python_text)
# By path, not as Python::Python: whoever links the installed library needs no Python of its own.
target_link_libraries(rft_python_text PUBLIC rft PRIVATE ${Python_LIBRARIES})
target_include_directories(rft_python_text SYSTEM PRIVATE ${Python_INCLUDE_DIRS})
target_compile_definitions(rft_python_text PRIVATE RFT_BUILD_PYTHON_EXECUTABLE="${Python_EXECUTABLE}")
target_compile_options(rft_python_text PRIVATE -Wno-attributes)
set_target_properties(rft_python_text PROPERTIES EXPORT_NAME python_text
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  BUILD_RPATH "${RFT_BUILD_RPATH};${Python_LIBRARY_DIRS}"
  INSTALL_RPATH "$ORIGIN;${RFT_TORCH_LIB_DIR};${RFT_TORCH_OPENMP_DIR};${Python_LIBRARY_DIRS}")

if(NOT SKBUILD)
  include(GNUInstallDirs)
  install(TARGETS rft_python_text EXPORT rftTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
  install(FILES bindings/python_text.h DESTINATION include/rft/bindings COMPONENT development)
endif()
