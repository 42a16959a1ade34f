# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# uodp_add_test(NAME LABEL TIMEOUT COMMAND...)
#
# One test under ctest, in a run directory of its own. Exit status 77 skips it,
# with the reason in its output. Sanitizer builds put their name in front, so
# that one ctest run can hold all builds.
set(UODP_TEST_PREFIX "")
set(UODP_TEST_WRAPPER ${CMAKE_SOURCE_DIR}/tests/isolate.sh)
set(UODP_TEST_ENVIRONMENT "")

# The sanitizer's runtime must come before the provider that uodprun preloads.
function(uodp_runtime_first library)
	execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=${library}
		OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
	if(IS_ABSOLUTE "${path}")
		list(APPEND UODP_TEST_ENVIRONMENT "UODP_PRELOAD_FIRST=${path}")
		set(UODP_TEST_ENVIRONMENT ${UODP_TEST_ENVIRONMENT} PARENT_SCOPE)
	endif()
endfunction()

if(UODP_SANITIZE STREQUAL "address")
	set(UODP_TEST_PREFIX "asan/")
	uodp_runtime_first(libasan.so)
	list(APPEND UODP_TEST_ENVIRONMENT
		"ASAN_OPTIONS=detect_stack_use_after_return=1"
		"UBSAN_OPTIONS=print_stacktrace=1")
elseif(UODP_SANITIZE STREQUAL "thread")
	set(UODP_TEST_PREFIX "tsan/")
	uodp_runtime_first(libtsan.so)
	# The runtime's shadow memory does not fit every random layout.
	list(APPEND UODP_TEST_WRAPPER setarch --addr-no-randomize)
	list(APPEND UODP_TEST_ENVIRONMENT "TSAN_OPTIONS=second_deadlock_stack=1 suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp")
endif()

function(uodp_add_test name label timeout)
	if(UODP_SANITIZE)
		math(EXPR timeout "${timeout} * 4")
	endif()
	add_test(NAME ${UODP_TEST_PREFIX}${name} COMMAND ${UODP_TEST_WRAPPER} ${ARGN}
		COMMAND_EXPAND_LISTS)
	set_tests_properties(${UODP_TEST_PREFIX}${name} PROPERTIES
		LABELS ${label}
		TIMEOUT ${timeout}
		SKIP_RETURN_CODE 77
		ENVIRONMENT "${UODP_TEST_ENVIRONMENT}")
endfunction()
