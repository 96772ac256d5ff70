# cmake -DRFT_BUILD=... -DRFT_SOURCE=... -DRFT_GENERATOR=... -P: install, configure and build the consumer, run it.
set(prefix ${RFT_BUILD}/consumer-install)
set(build ${RFT_BUILD}/consumer-build)
file(REMOVE_RECURSE ${prefix} ${build})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${RFT_BUILD} --prefix ${prefix} --component development
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} -S ${RFT_SOURCE} -B ${build} -G ${RFT_GENERATOR} -DCMAKE_BUILD_TYPE=Release
                        -DCMAKE_PREFIX_PATH=${prefix} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${build} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${build}/consumer COMMAND_ERROR_IS_FATAL ANY)
