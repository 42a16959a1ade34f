# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# libfuse3, for the file system: the target Fuse3::fuse3
find_path(FUSE3_INCLUDE_DIR fuse_lowlevel.h PATH_SUFFIXES fuse3)
find_library(FUSE3_LIBRARY fuse3)
mark_as_advanced(FUSE3_INCLUDE_DIR FUSE3_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Fuse3
	REQUIRED_VARS FUSE3_LIBRARY FUSE3_INCLUDE_DIR
	REASON_FAILURE_MESSAGE "install libfuse3-dev")

if(Fuse3_FOUND AND NOT TARGET Fuse3::fuse3)
	add_library(Fuse3::fuse3 UNKNOWN IMPORTED)
	set_target_properties(Fuse3::fuse3 PROPERTIES
		IMPORTED_LOCATION ${FUSE3_LIBRARY}
		INTERFACE_INCLUDE_DIRECTORIES ${FUSE3_INCLUDE_DIR})
endif()
