/* udp: the benchmark's server and client for datagrams, in one thread each.
 *
 *   udp server PORT ADDRESS...
 *   udp rr   ADDRESS PORT N SECONDS [SOCKS_ADDRESS SOCKS_PORT]   one packet each way, on N sockets
 *   udp up   ADDRESS PORT 1 SECONDS [...]                        one way, faster and faster
 *   udp down ADDRESS PORT 1 SECONDS [...]
 *
 * A packet has 64 bytes.  Its first byte says what the server is to do: E send it
 * back, U count it, C answer with the count and begin a new one, D send so many
 * packets per second for so long.  The client prints "name value" lines.
 *
 * up and down try rates that rise, each for SECONDS, and print the best rate that
 * arrived with a loss below one percent: what a sender that is not slowed down
 * gets through says how well packets are dropped, not how fast they are carried.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 64            /* bytes of payload */
#define BATCH 32           /* packets per call */
#define FLOWS 256          /* the most sockets */
#define ROOM (4 * 1024 * 1024) /* of the sockets' buffers: bursts are not what is measured */
#define LOST 0.5           /* seconds; the answer will not come any more */
#define QUIET 100          /* milliseconds without a packet: that was all */
#define NAP 50000          /* nanoseconds between two looks at the clock */

static const int rates[] = {10000, 20000, 30000, 40000, 50000, 60000, 80000,
			    100000, 130000, 160000, 200000};

/* The header of RFC 1928, section 7, if the client speaks SOCKS5; IPv4 only. */
static unsigned char header[10];
static size_t header_size;

static char packets[BATCH][SIZE + sizeof header];
static struct mmsghdr messages[BATCH];
static struct iovec pieces[BATCH][2];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	fprintf(stderr, "udp: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in parse(const char *text, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
		die(text);
	return address;
}

static int make_socket(void)
{
	int room = ROOM, fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	return fd;
}

/* Sends rate packets per second for so long; returns how many. */
static uint64_t blast(int fd, struct sockaddr_in *to, int rate, double seconds)
{
	struct timespec nap = {.tv_nsec = NAP};
	uint64_t sent = 0;
	double begin = now(), passed;
	for (int i = 0; i < BATCH; i++) {
		packets[i][0] = 'U';
		pieces[i][0] = (struct iovec){header, header_size};
		pieces[i][1] = (struct iovec){packets[i], SIZE};
		messages[i].msg_hdr = (struct msghdr){.msg_name = to, .msg_iov = pieces[i],
			.msg_namelen = to != NULL ? sizeof *to : 0, .msg_iovlen = 2};
	}
	while ((passed = now() - begin) < seconds) {
		int64_t due = rate * passed - sent;
		if (due <= 0) {
			nanosleep(&nap, NULL);
			continue;
		}
		int done = sendmmsg(fd, messages, due < BATCH ? due : BATCH, 0);
		if (done > 0)
			sent += done;
	}
	return sent;
}

/* Takes what is there; returns how many packets of this kind. */
static uint64_t take(int fd, char kind)
{
	uint64_t found = 0;
	for (int i = 0; i < BATCH; i++) {
		pieces[i][0] = (struct iovec){packets[i], sizeof packets[i]};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = pieces[i], .msg_iovlen = 1};
	}
	int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < got; i++)
		found += packets[i][header_size] == kind;
	return found;
}

/* ---- the server ---- */

static uint64_t counted;

static void serve_one(int fd)
{
	struct sockaddr_in names[BATCH];
	for (int i = 0; i < BATCH; i++) {
		pieces[i][0] = (struct iovec){packets[i], SIZE};
		messages[i].msg_hdr = (struct msghdr){.msg_name = &names[i], .msg_iov = pieces[i],
			.msg_namelen = sizeof names[i], .msg_iovlen = 1};
	}
	int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < got; i++) {
		char *packet = packets[i];
		uint32_t wanted[2]; /* packets per second, milliseconds */
		uint64_t sent;
		switch (packet[0]) {
		case 'U':
			counted++;
			continue;
		case 'C':
			memcpy(packet + 1, &counted, sizeof counted);
			counted = 0;
			break;
		case 'D':
			memcpy(wanted, packet + 1, sizeof wanted);
			sent = blast(fd, &names[i], wanted[0], wanted[1] * 1e-3);
			packet[0] = 'S';
			memcpy(packet + 1, &sent, sizeof sent);
			sendto(fd, packet, SIZE, 0, (void *)&names[i], sizeof names[i]);
			return; /* the batch has been used for something else */
		}
		sendto(fd, packet, SIZE, 0, (void *)&names[i], sizeof names[i]);
	}
}

static void serve(int port, char **addresses, int count)
{
	struct pollfd watched[count];
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	for (int i = 0; i < count; i++) {
		struct sockaddr_in own = parse(addresses[i], port);
		watched[i] = (struct pollfd){.fd = make_socket(), .events = POLLIN};
		if (bind(watched[i].fd, (void *)&own, sizeof own) != 0)
			die("bind");
	}
	/* Nobody connects: it shows that the server is up. */
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (void *)&any, sizeof any) != 0 || listen(listener, 1) != 0)
		die("listen");
	while (poll(watched, count, -1) > 0)
		for (int i = 0; i < count; i++)
			if (watched[i].revents != 0)
				serve_one(watched[i].fd);
}

/* ---- the client ---- */

/* A socket to the target, or to the relay of an association; the control
 * connection stays open until the program ends. */
static int open_flow(struct sockaddr_in *target, struct sockaddr_in *proxy)
{
	unsigned char reply[10], ask[10] = {5, 3, 0, 1};
	struct sockaddr_in first = *target;
	int fd = make_socket();
	if (proxy != NULL) {
		int control = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(control, (void *)proxy, sizeof *proxy) != 0)
			die("connect");
		if (send(control, "\5\1\0", 3, 0) != 3 || recv(control, reply, 2, MSG_WAITALL) != 2 ||
		    send(control, ask, 10, 0) != 10 || recv(control, reply, 10, MSG_WAITALL) != 10 ||
		    reply[1] != 0)
			die("UDP ASSOCIATE");
		memcpy(&first.sin_addr, reply + 4, 4);
		memcpy(&first.sin_port, reply + 8, 2);
	}
	if (connect(fd, (void *)&first, sizeof first) != 0)
		die("connect");
	return fd;
}

static void send_one(int fd, char *packet)
{
	struct iovec parts[2] = {{header, header_size}, {packet, SIZE}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	sendmsg(fd, &message, 0);
}

static void rr(int *fds, int count, double seconds)
{
	struct pollfd watched[FLOWS];
	double sent[FLOWS], begin = now(), end = begin + seconds, time = begin;
	char packet[SIZE] = "E";
	uint64_t done = 0, lost = 0;
	for (int i = 0; i < count; i++) {
		watched[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
		sent[i] = time;
		send_one(fds[i], packet);
	}
	for (; time < end; time = now()) {
		poll(watched, count, 50);
		for (int i = 0; i < count; i++) {
			if (watched[i].revents != 0 && take(fds[i], 'E') > 0)
				done++;
			else if (time - sent[i] > LOST)
				lost++;
			else
				continue;
			sent[i] = time;
			send_one(fds[i], packet);
		}
	}
	printf("rate %.1f\nlost %lu\n", done / (time - begin), lost);
}

/* Waits for a packet of this kind and returns the number in it; 0 if none comes. */
static uint64_t answer(int fd, char kind, uint64_t *others)
{
	struct pollfd watched = {.fd = fd, .events = POLLIN};
	uint64_t number = 0;
	while (poll(&watched, 1, QUIET) > 0) {
		char packet[SIZE + sizeof header];
		ssize_t got = recv(fd, packet, sizeof packet, MSG_DONTWAIT);
		if (got < (ssize_t)(header_size + SIZE))
			continue;
		if (packet[header_size] == kind) {
			memcpy(&number, packet + header_size + 1, sizeof number);
			return number;
		}
		(*others)++;
	}
	return number;
}

static void ramp(int fd, int down, double seconds)
{
	double best = 0;
	uint64_t ready = 0, nothing = 0;
	/* What the first packet sets up is not what is measured. */
	for (int try = 0; try < 20 && ready == 0; try++) {
		char first[SIZE] = "U", second[SIZE] = "C";
		send_one(fd, first);
		send_one(fd, second);
		ready = answer(fd, 'C', &nothing);
	}
	for (size_t i = 0, bad = 0; i < sizeof rates / sizeof *rates && bad < 2; i++) {
		char packet[SIZE] = "C";
		uint64_t sent = 0, got = 0, unused = 0;
		if (down) {
			uint32_t wanted[2] = {rates[i], seconds * 1000};
			struct pollfd watched = {.fd = fd, .events = POLLIN};
			double end = now() + seconds;
			packet[0] = 'D';
			memcpy(packet + 1, wanted, sizeof wanted);
			send_one(fd, packet);
			while (now() < end)
				if (poll(&watched, 1, 1) > 0)
					got += take(fd, 'U');
			sent = answer(fd, 'S', &got);
			if (sent == 0) /* its last packet was dropped as well */
				sent = rates[i] * seconds;
		} else {
			sent = blast(fd, NULL, rates[i], seconds);
			usleep(QUIET * 1000);
			for (int try = 0; try < 5 && got == 0; try++) {
				send_one(fd, packet);
				got = answer(fd, 'C', &unused);
			}
		}
		if (sent > 0 && got >= sent * 0.99) {
			if (got / seconds > best)
				best = got / seconds;
			bad = 0;
		} else
			bad++;
	}
	printf("rate %.1f\n", best);
}

int main(int argc, char **argv)
{
	if (argc > 3 && strcmp(argv[1], "server") == 0)
		serve(atoi(argv[2]), argv + 3, argc - 3);
	if (argc != 6 && argc != 8) {
		fprintf(stderr, "usage: see udp.c\n");
		return 2;
	}
	int fds[FLOWS], count = atoi(argv[4]);
	double seconds = atof(argv[5]);
	struct sockaddr_in target = parse(argv[2], atoi(argv[3])), proxy;
	if (argc == 8) {
		proxy = parse(argv[6], atoi(argv[7]));
		header[3] = 1;
		memcpy(header + 4, &target.sin_addr, 4);
		memcpy(header + 8, &target.sin_port, 2);
		header_size = sizeof header;
	}
	if (count < 1 || count > FLOWS) {
		fprintf(stderr, "udp: 1 to %d sockets\n", FLOWS);
		return 2;
	}
	for (int i = 0; i < count; i++)
		fds[i] = open_flow(&target, argc == 8 ? &proxy : NULL);
	if (strcmp(argv[1], "rr") == 0)
		rr(fds, count, seconds);
	else
		ramp(fds[0], strcmp(argv[1], "down") == 0, seconds);
	return 0;
}
