# `cmake --install`: the libraries with their headers, as find_package(redline) finds them. The program installs
# itself and its completions and manual page in tools/redline.
include(CMakePackageConfigHelpers)
set(redline_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/redline)

get_property(rooms GLOBAL PROPERTY REDLINE_ROOMS)
foreach(room IN LISTS rooms)
  install(TARGETS redline_${room} EXPORT redlineTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/redline
    FILES_MATCHING PATTERN "*.h")
endforeach()

install(EXPORT redlineTargets NAMESPACE redline:: DESTINATION ${redline_config_dir})
configure_package_config_file(cmake/redlineConfig.cmake.in ${PROJECT_BINARY_DIR}/redlineConfig.cmake
  INSTALL_DESTINATION ${redline_config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/redlineConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/redlineConfig.cmake ${PROJECT_BINARY_DIR}/redlineConfigVersion.cmake
  DESTINATION ${redline_config_dir})
