# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# liburing, the interface to io_uring: the target Liburing::uring
find_path(LIBURING_INCLUDE_DIR liburing.h )
find_library(LIBURING_LIBRARY uring)
mark_as_advanced(LIBURING_INCLUDE_DIR LIBURING_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Liburing
	REQUIRED_VARS LIBURING_LIBRARY LIBURING_INCLUDE_DIR
	REASON_FAILURE_MESSAGE "install liburing-dev")

if(Liburing_FOUND AND NOT TARGET Liburing::uring)
	add_library(Liburing::uring UNKNOWN IMPORTED)
	set_target_properties(Liburing::uring PROPERTIES
		IMPORTED_LOCATION ${LIBURING_LIBRARY}
		INTERFACE_INCLUDE_DIRECTORIES ${LIBURING_INCLUDE_DIR})
endif()
