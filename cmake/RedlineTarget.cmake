# Warnings for our own targets; every one is an error.
set(REDLINE_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Werror)

# redline_room(NAME DEPENDS...): a static library of every source in this folder.
function(redline_room name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_library(redline_${name} STATIC ${sources})
  add_library(redline::${name} ALIAS redline_${name})
  set_target_properties(redline_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(redline_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/redline>)
  target_compile_options(redline_${name} PRIVATE ${REDLINE_WARNINGS})
  target_compile_features(redline_${name} PUBLIC cxx_std_20)
  target_link_libraries(redline_${name} PUBLIC ${ARGN})
  set_property(GLOBAL APPEND PROPERTY REDLINE_ROOMS ${name})
endfunction()
