# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# librdmacm, for the tests of connection management: the target Rdmacm::rdmacm
find_path(RDMACM_INCLUDE_DIR rdma/rdma_cma.h )
find_library(RDMACM_LIBRARY rdmacm)
mark_as_advanced(RDMACM_INCLUDE_DIR RDMACM_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Rdmacm
	REQUIRED_VARS RDMACM_LIBRARY RDMACM_INCLUDE_DIR
	REASON_FAILURE_MESSAGE "install librdmacm-dev")

if(Rdmacm_FOUND AND NOT TARGET Rdmacm::rdmacm)
	add_library(Rdmacm::rdmacm UNKNOWN IMPORTED)
	set_target_properties(Rdmacm::rdmacm PROPERTIES
		IMPORTED_LOCATION ${RDMACM_LIBRARY}
		INTERFACE_INCLUDE_DIRECTORIES ${RDMACM_INCLUDE_DIR})
endif()
