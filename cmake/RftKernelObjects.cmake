# cmake -DOBJECTS=<list> -DNM=<nm> -P: fails when a kernel object for a newer CPU defines a weak symbol that others may have too.
# The linker keeps one copy of each inline function; if it kept the one from kernels_avx512*.o, an older CPU would meet an
# unknown instruction far from any kernel. Kernels therefore keep everything in a namespace of their instruction set
# (rft::isa_avx512, ...), whose symbols no other object has, and let nothing of std out of line.
set(checked 0)
foreach(object IN LISTS OBJECTS)
  if(object MATCHES "kernels_a[mv]x")
    execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "nm could not read ${object}")
    endif()
    string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]+" weak "${symbols}")
    list(FILTER weak EXCLUDE REGEX "rft::isa_")
    if(weak)
      list(JOIN weak "\n  " weak)
      message(FATAL_ERROR "${object} defines inline functions that other files could end up running:\n  ${weak}")
    endif()
    math(EXPR checked "${checked} + 1")
  endif()
endforeach()
if(checked EQUAL 0)
  message(FATAL_ERROR "no kernel object among: ${OBJECTS}")
endif()
message(STATUS "${checked} kernel objects checked")
