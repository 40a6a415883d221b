/* load: the benchmark's server and client, in one thread and one epoll each.
 *
 * C, because a client in Python takes 50 us for what it measures, a connection
 * that takes 100; the compiler is there anyway, the library is built with it.
 *
 *   load server PORT
 *   load up|down ADDRESS PORT STREAMS SECONDS [SOCKS_ADDRESS SOCKS_PORT]
 *   load rr      ADDRESS PORT 1       SECONDS [...]   one byte each way, one connection
 *   load crr     ADDRESS PORT N       SECONDS [...]   connect, a byte each way, close; N at a time
 *   load idle    ADDRESS PORT N       SECONDS [...]   N connections that say nothing
 *
 * The client's first byte says what the server is to do with the connection:
 * E echo, U take everything and answer with its length (8 bytes), D send until
 * the client closes.  The client prints "name value" lines.  idle prints
 * "ready" when all are open, and ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 * 1024) /* bytes per call in bulk */
#define BATCH 256          /* events per epoll_wait */
#define LATENCIES 2000000  /* the most that are kept */
#define TURNS 16           /* chunks of one connection before the next has its turn */

static char chunk[CHUNK];
static int poll_fd;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static socklen_t parse(const char *text, int port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (void *)address;
	struct sockaddr_in6 *v6 = (void *)address;
	memset(address, 0, sizeof *address);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof *v4;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		die(text);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof *v6;
}

static void watch(int operation, int fd, uint32_t events, void *data)
{
	struct epoll_event event = {.events = events, .data.ptr = data};
	if (epoll_ctl(poll_fd, operation, fd, &event) != 0)
		die("epoll_ctl");
}

static void no_delay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- the server ---- */

struct served {
	int fd;
	char mode; /* 0 until the first byte came */
	uint64_t count;
};

static void end_served(struct served *s)
{
	close(s->fd);
	free(s);
}

static void serve_one(struct served *s)
{
	char byte;
	ssize_t got = 0;
	if (s->mode == 'D') {
		for (int i = 0; i < TURNS && (got = send(s->fd, chunk, CHUNK, MSG_NOSIGNAL)) > 0; i++)
			;
		if (got < 0 && errno != EAGAIN)
			end_served(s);
		return;
	}
	if (s->mode == 'U') {
		/* MSG_TRUNC: counted, not copied. */
		for (int i = 0; i < TURNS && (got = recv(s->fd, chunk, CHUNK, MSG_TRUNC)) > 0; i++)
			s->count += got;
		if (got == 0)
			send(s->fd, &s->count, sizeof s->count, MSG_NOSIGNAL);
		if (got == 0 || (got < 0 && errno != EAGAIN))
			end_served(s);
		return;
	}
	got = recv(s->fd, &byte, 1, 0);
	if (got <= 0) {
		if (got == 0 || errno != EAGAIN)
			end_served(s);
		return;
	}
	if (s->mode == 0)
		s->mode = byte;
	if (s->mode == 'E')
		send(s->fd, &byte, 1, MSG_NOSIGNAL);
	if (s->mode == 'D')
		watch(EPOLL_CTL_MOD, s->fd, EPOLLOUT | EPOLLIN, s);
}

static void serve(int port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct epoll_event events[BATCH];
	int one = 1, listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (void *)&any, sizeof any) != 0 || listen(listener, 4096) != 0)
		die("listen");
	watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	for (;;) {
		int count = epoll_wait(poll_fd, events, BATCH, -1);
		for (int i = 0; i < count; i++) {
			int fd;
			if (events[i].data.ptr != NULL) {
				serve_one(events[i].data.ptr);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				struct served *s = calloc(1, sizeof *s);
				s->fd = fd;
				no_delay(fd);
				watch(EPOLL_CTL_ADD, fd, EPOLLIN, s);
			}
		}
	}
}

/* ---- the client ---- */

enum step { CONNECTING, GREETED, ASKED, SENT, BULK, DRAINING };

struct flow {
	int fd;
	enum step step;
	int want; /* bytes of the proxy's reply that are still to come */
	double started;
};

static struct sockaddr_storage target, first_hop;
static socklen_t first_hop_size;
static int through_socks;
static char mode; /* E U D, or I for idle */
static int stay;  /* rr: keep the connection */

static double *latencies;
static uint64_t done, failed, bytes, opened, drained;

static void start_flow(struct flow *f)
{
	f->fd = socket(first_hop.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (f->fd < 0)
		die("socket");
	no_delay(f->fd);
	f->step = CONNECTING;
	f->started = now();
	if (connect(f->fd, (void *)&first_hop, first_hop_size) != 0 && errno != EINPROGRESS)
		die("connect");
	watch(EPOLL_CTL_ADD, f->fd, EPOLLOUT, f);
}

static void fail_flow(struct flow *f)
{
	failed++;
	close(f->fd);
	if (failed > 100)
		die("more than 100 connections failed, the last");
	start_flow(f);
}

static void open_flow(struct flow *f)
{
	char first = mode == 'I' ? 'E' : mode;
	opened++;
	if (send(f->fd, &first, 1, MSG_NOSIGNAL) != 1) {
		fail_flow(f);
		return;
	}
	f->step = mode == 'E' || mode == 'I' ? SENT : BULK;
	watch(EPOLL_CTL_MOD, f->fd, mode == 'U' ? EPOLLOUT : EPOLLIN, f);
}

static void ask_socks(struct flow *f)
{
	unsigned char request[22] = {5, 1, 0};
	size_t length;
	if (target.ss_family == AF_INET) {
		struct sockaddr_in *v4 = (void *)&target;
		request[3] = 1;
		memcpy(request + 4, &v4->sin_addr, 4);
		memcpy(request + 8, &v4->sin_port, 2);
		length = 10;
	} else {
		struct sockaddr_in6 *v6 = (void *)&target;
		request[3] = 4;
		memcpy(request + 4, &v6->sin6_addr, 16);
		memcpy(request + 20, &v6->sin6_port, 2);
		length = 22;
	}
	send(f->fd, request, length, MSG_NOSIGNAL);
	f->step = ASKED;
	f->want = length; /* dante's reply has the family of the request */
}

/* Reads the proxy's replies; 1 when the connection is through. */
static int socks_step(struct flow *f)
{
	unsigned char reply[22];
	ssize_t got = recv(f->fd, reply, f->want, 0);
	if (got <= 0 || (f->step == ASKED && f->want >= 10 && got > 1 && reply[1] != 0)) {
		errno = got == 0 ? ECONNRESET : errno;
		fail_flow(f);
		return 0;
	}
	f->want -= got;
	if (f->want > 0)
		return 0;
	if (f->step == ASKED)
		return 1;
	ask_socks(f);
	return 0;
}

static void connected(struct flow *f)
{
	int error = 0;
	socklen_t size = sizeof error;
	getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error != 0) {
		errno = error;
		fail_flow(f);
	} else if (through_socks) {
		send(f->fd, "\5\1\0", 3, MSG_NOSIGNAL);
		f->step = GREETED;
		f->want = 2;
		watch(EPOLL_CTL_MOD, f->fd, EPOLLIN, f);
	} else {
		open_flow(f);
	}
}

static void echoed(struct flow *f)
{
	char byte;
	ssize_t got = recv(f->fd, &byte, 1, 0);
	if (got != 1) {
		if (got < 0 && errno == EAGAIN)
			return;
		fail_flow(f);
		return;
	}
	if (mode == 'I') {
		done++;
		return;
	}
	if (done < LATENCIES)
		latencies[done] = now() - f->started;
	done++;
	if (stay) {
		f->started = now();
		send(f->fd, "E", 1, MSG_NOSIGNAL);
		return;
	}
	close(f->fd);
	start_flow(f);
}

static void moved(struct flow *f)
{
	ssize_t got = 1;
	for (int i = 0; i < TURNS && got > 0; i++) {
		if (mode == 'U')
			got = send(f->fd, chunk, CHUNK, MSG_NOSIGNAL);
		else if ((got = recv(f->fd, chunk, CHUNK, MSG_TRUNC)) > 0)
			bytes += got;
	}
}

static void drain(struct flow *f)
{
	uint64_t count = 0;
	ssize_t got = recv(f->fd, &count, sizeof count, MSG_WAITALL);
	if (got < 0 && errno == EAGAIN)
		return;
	bytes += got == sizeof count ? count : 0;
	drained++;
	watch(EPOLL_CTL_DEL, f->fd, 0, NULL);
}

static void step(struct flow *f)
{
	switch (f->step) {
	case CONNECTING:
		connected(f);
		break;
	case GREETED:
	case ASKED:
		if (socks_step(f))
			open_flow(f);
		break;
	case SENT:
		echoed(f);
		break;
	case BULK:
		moved(f);
		break;
	case DRAINING:
		drain(f);
		break;
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void turn(double until)
{
	struct epoll_event events[BATCH];
	int wait = (int)((until - now()) * 1000) + 1;
	int count = epoll_wait(poll_fd, events, BATCH, wait > 0 ? wait : 0);
	for (int i = 0; i < count; i++)
		step(events[i].data.ptr);
}

/* Bulk: the clock starts when all streams are open.  Up: what the server took. */
static void bulk(struct flow *flows, int count, double seconds)
{
	double begin = now(), limit = begin + 20;
	while (opened < (uint64_t)count && now() < limit)
		turn(limit);
	begin = now();
	bytes = 0;
	while (now() < begin + seconds)
		turn(begin + seconds);
	double end = now();
	if (mode == 'U') {
		for (int i = 0; i < count; i++) {
			shutdown(flows[i].fd, SHUT_WR);
			flows[i].step = DRAINING;
			watch(EPOLL_CTL_MOD, flows[i].fd, EPOLLIN, &flows[i]);
		}
		while (drained < (uint64_t)count && now() < end + 20)
			turn(end + 20);
		end = now();
	}
	printf("gigabits %.4f\nbytes %lu\n", bytes * 8e-9 / (end - begin), bytes);
}

static void echo(double seconds)
{
	double begin = now();
	while (now() < begin + seconds)
		turn(begin + seconds);
	double end = now();
	size_t kept = done < LATENCIES ? done : LATENCIES;
	qsort(latencies, kept, sizeof *latencies, by_size);
	printf("rate %.1f\n", done / (end - begin));
	if (kept > 0)
		printf("p50_us %.1f\np99_us %.1f\n", latencies[kept / 2] * 1e6,
		       latencies[kept * 99 / 100] * 1e6);
}

static void idle(int count, double seconds)
{
	double limit = now() + seconds;
	while (done < (uint64_t)count && now() < limit)
		turn(limit);
	printf("ready\nopened %lu\n", done);
	fflush(stdout);
	while (read(0, chunk, CHUNK) > 0)
		;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	poll_fd = epoll_create1(0);
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		serve(atoi(argv[2]));
	if (argc != 6 && argc != 8) {
		fprintf(stderr, "usage: see load.c\n");
		return 2;
	}
	int count = atoi(argv[4]);
	double seconds = atof(argv[5]);
	first_hop_size = parse(argv[2], atoi(argv[3]), &target);
	first_hop = target;
	if (argc == 8) {
		through_socks = 1;
		first_hop_size = parse(argv[6], atoi(argv[7]), &first_hop);
	}
	mode = strcmp(argv[1], "up") == 0 ? 'U' : strcmp(argv[1], "down") == 0 ? 'D'
	     : strcmp(argv[1], "idle") == 0 ? 'I' : 'E';
	stay = strcmp(argv[1], "rr") == 0;
	latencies = malloc(LATENCIES * sizeof *latencies);
	struct flow *flows = calloc(count, sizeof *flows);
	for (int i = 0; i < count; i++) {
		start_flow(&flows[i]);
		if (mode == 'I' && i % 32 == 31) /* not a storm: it is not what is measured */
			for (double end = now() + 0.01; now() < end;)
				turn(end);
	}
	if (mode == 'U' || mode == 'D')
		bulk(flows, count, seconds);
	else if (mode == 'I')
		idle(count, seconds);
	else
		echo(seconds);
	printf("failed %lu\n", failed);
	return 0;
}
