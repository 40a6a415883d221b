/* newcomers: new processes that make one connection each.
 *
 *   newcomers ADDRESS PORT COUNT AT_ONCE
 *
 * Starts COUNT processes, AT_ONCE at a time; each runs this file anew, connects to a
 * "load server", has one byte echoed and ends.  Prints "name value" lines: how many failed,
 * and the median and the 99th percentile of the milliseconds from a process's start to its
 * end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDS (1 << 22) /* PID_MAX_LIMIT of linux/threads.h */

extern char **environ;
static double began[PIDS];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int connect_once(const char *address, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char byte = 'E';
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		return 1;
	if (fd < 0 || connect(fd, (void *)&to, sizeof to) != 0)
		return 1;
	return send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return connect_once(argv[1], atoi(argv[2]));
	if (argc != 5)
		return 2;
	int count = atoi(argv[3]), at_once = atoi(argv[4]);
	int started = 0, ended = 0, failed = 0, status;
	char *child[] = {argv[0], argv[1], argv[2], NULL};
	double *taken = calloc(count, sizeof *taken);
	while (ended < count) {
		pid_t pid;
		if (started < count && started - ended < at_once) {
			double start = now();
			errno = posix_spawn(&pid, argv[0], NULL, NULL, child, environ);
			if (errno != 0) {
				perror("newcomers");
				return 1;
			}
			began[pid] = start;
			started++;
			continue;
		}
		pid = wait(&status);
		taken[ended++] = now() - began[pid];
		failed += status != 0;
	}
	qsort(taken, count, sizeof *taken, by_size);
	printf("failed %d\nmedian %f\np99 %f\n", failed, taken[count / 2] * 1e3,
	       taken[count - 1 - count / 100] * 1e3);
	return 0;
}
