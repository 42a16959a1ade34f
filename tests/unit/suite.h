/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Run a list of CUnit tests; the exit status says whether all passed. */
#ifndef UNIT_SUITE_H
#define UNIT_SUITE_H

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>

static inline int suite_run(const char *name, CU_TestInfo *tests)
{
	CU_SuiteInfo suites[] = {{.pName = name, .pTests = tests}, CU_SUITE_INFO_NULL};
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS)
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed() +
		 !CU_get_number_of_tests_run();
	CU_cleanup_registry();
	return failed != 0;
}

#endif
