/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * An MPI program that checks what it receives: point to point in both protocols (eager,
 * rendezvous), all-reduce, all-to-all, and one-sided put, get and accumulate.
 * Built with mpicc by run.py.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#define MAX ((size_t)4 << 20)

static int rank, size, failed;

static void check(int ok, const char *what, size_t n)
{
	if (ok)
		return;
	printf("rank %d: %s of %zu bytes is wrong\n", rank, what, n);
	failed = 1;
}

static void fill(uint8_t *buf, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)(seed * 131 + i * 7 + (i >> 8));
}

static int same(const uint8_t *buf, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != (uint8_t)(seed * 131 + i * 7 + (i >> 8)))
			return 0;
	return 1;
}

static void ping_pong(uint8_t *out, uint8_t *in)
{
	int to = rank ^ 1;

	for (size_t n = 1; n <= MAX && to < size; n = n < 64 ? n * 8 : n * 4) {
		fill(out, n, (unsigned)rank);
		memset(in, 0, n);
		MPI_Sendrecv(out, (int)n, MPI_BYTE, to, 1, in, (int)n, MPI_BYTE, to, 1,
			     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		check(same(in, n, (unsigned)to), "a message", n);
	}
}

static void collectives(uint8_t *out, uint8_t *in)
{
	for (int n = 1; n <= 65536; n *= 16) {
		int64_t *a = (int64_t *)out, *b = (int64_t *)in;
		int ok = 1;

		for (int i = 0; i < n; i++)
			a[i] = rank + i;
		MPI_Allreduce(a, b, n, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
		for (int i = 0; i < n; i++)
			ok &= b[i] == (int64_t)size * i + (int64_t)size * (size - 1) / 2;
		check(ok, "all-reduce", (size_t)n * 8);
	}
	for (size_t n = 8; n <= MAX / 8; n *= 32) {
		for (int to = 0; to < size; to++)
			fill(out + (size_t)to * n, n, (unsigned)(rank * size + to));
		MPI_Alltoall(out, (int)n, MPI_BYTE, in, (int)n, MPI_BYTE, MPI_COMM_WORLD);
		for (int from = 0; from < size; from++)
			check(same(in + (size_t)from * n, n, (unsigned)(from * size + rank)),
			      "all-to-all", n);
	}
}

static void one_sided(uint8_t *out, uint8_t *in)
{
	int to = (rank + 1) % size, from = (rank + size - 1) % size;
	int64_t one = 1, *counter;
	uint8_t *base;
	MPI_Win win;

	MPI_Win_allocate((MPI_Aint)MAX, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
	for (size_t n = 8; n <= MAX; n *= 16) {
		memset(base, 0, n);
		MPI_Win_fence(0, win);
		fill(out, n, (unsigned)rank + 100);
		MPI_Put(out, (int)n, MPI_BYTE, to, 0, (int)n, MPI_BYTE, win);
		MPI_Win_fence(0, win);
		check(same(base, n, (unsigned)from + 100), "a put", n);
		memset(in, 0, n);
		MPI_Get(in, (int)n, MPI_BYTE, to, 0, (int)n, MPI_BYTE, win);
		MPI_Win_fence(0, win);
		check(same(in, n, (unsigned)rank + 100), "a get", n);
		MPI_Win_fence(0, win);
	}
	counter = (int64_t *)base;
	*counter = 0;
	MPI_Win_fence(0, win);
	for (int i = 0; i < 100; i++)
		MPI_Accumulate(&one, 1, MPI_INT64_T, 0, 0, 1, MPI_INT64_T, MPI_SUM, win);
	MPI_Win_fence(0, win);
	if (!rank)
		check(*counter == (int64_t)size * 100, "a sum", 8);
	MPI_Win_free(&win);
}

int main(int argc, char **argv)
{
	uint8_t *out = malloc(MAX), *in = malloc(MAX);
	int any;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	ping_pong(out, in);
	collectives(out, in);
	one_sided(out, in);
	MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
	if (!rank && !any)
		printf("all checked: %d ranks\n", size);
	MPI_Finalize();
	free(out);
	free(in);
	return any;
}
