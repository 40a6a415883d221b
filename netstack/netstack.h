/* netstack.h: the contract between nanotun's Python and its native stack.
 *
 * This file is written by hand.  nanotun/engine/abi.py repeats it for ctypes,
 * netstack/export.go implements it, and a test compares the first two.
 *
 * Rules that hold for every call
 *  - Handles and flow ids are integers; 0 is never a valid one.
 *  - A call returns 0 or more when it worked and -errno when it did not.
 *  - Nothing blocks but ns_probe and ns_close, and those are bounded.
 *  - All calls for one handle come from one thread, the reactor's.
 *  - Nothing calls back into the caller.  One eventfd says that ns_drain has
 *    something to give.  What ns_pump itself raises does not make it readable:
 *    the caller drains after each pump.  NS_EVENT_CLOSED, which nobody waits
 *    for, may come up to 50 ms late.
 *  - A panic in a call becomes -ENOTRECOVERABLE and a report on stderr; one in
 *    a thread of the library ends the process.
 *  - Byte order: ports are in host order, addresses in network order.
 *  - What a pointer points to is only read, unless a call says that it fills it;
 *    no const, because cgo cannot say it on its side.
 */
#ifndef NANOTUN_NETSTACK_H
#define NANOTUN_NETSTACK_H

#include <stddef.h>
#include <stdint.h>

#define NS_ABI_VERSION 1

/* ns_config.stack */
#define NS_STACK_GVISOR 1 /* the whole of gVisor's netstack */
#define NS_STACK_SIMPLE 2 /* fixed windows, no loss recovery machinery */

/* ns_event.kind */
#define NS_EVENT_TCP_REQUEST 1 /* a SYN waits for ns_join, ns_refuse or ns_drop */
#define NS_EVENT_ABANDONED 2   /* the app gave up before the decision; the id is gone */
#define NS_EVENT_CLOSED 3      /* a joined flow ended; error is 0 or the errno that ended it */
#define NS_EVENT_DEVICE_RETURNED 4 /* a lent device is the caller's to read again */

/* ns_refuse's reason: what the app is to see */
#define NS_REFUSE_RESET 1            /* RST: connection refused */
#define NS_REFUSE_HOST_UNREACHABLE 2 /* ICMP host / address unreachable */
#define NS_REFUSE_NET_UNREACHABLE 3  /* ICMP net unreachable / no route */
#define NS_REFUSE_PROHIBITED 4       /* ICMP administratively prohibited */

/* Filled in by the caller of ns_open. */
struct ns_config {
	uint32_t size;            /* sizeof(struct ns_config) */
	int32_t tun_fd;           /* non-blocking; stays the caller's, open until ns_close returned */
	uint32_t mtu;             /* bytes, 1280 to 65535 */
	uint32_t stack;           /* NS_STACK_... */
	uint32_t vnet_header;     /* bytes of virtio-net header on the fd: 0 or 10 */
	uint32_t pending_limit;   /* flows that may wait for a decision, all sources together */
	uint32_t pending_per_source;
	uint32_t flow_limit;      /* joined flows */
	uint32_t keepalive_s;     /* TCP keep-alive idle time towards the app; 0: none */
	uint32_t half_closed_s;   /* a half-closed flow without a byte for this long is ended */
	uint8_t gateway4[4];      /* answers ping; TCP to it is dropped */
	uint8_t gateway6[16];
};

struct ns_event {
	uint64_t flow;
	uint64_t bytes_up;   /* from the app; NS_EVENT_CLOSED only, as bytes_down */
	uint64_t bytes_down;
	uint32_t kind;       /* NS_EVENT_... */
	int32_t error;       /* errno, 0 for none */
	uint16_t source_port;
	uint16_t destination_port;
	uint8_t family;      /* 4 or 6 */
	uint8_t protocol;    /* 6: TCP, 17: UDP */
	uint8_t reserved[2];
	uint8_t source[16];  /* the first 4 bytes for family 4 */
	uint8_t destination[16];
};

/* Counters since ns_open, but for the gauges, which say so. */
struct ns_stats {
	uint64_t flows;              /* gauge: joined now */
	uint64_t pending;            /* gauge: waiting for a decision now */
	uint64_t flows_total;        /* joined and established */
	uint64_t refused;
	uint64_t bytes_up;
	uint64_t bytes_down;
	uint64_t packets_in;         /* read from the TUN */
	uint64_t packets_out;        /* written to the TUN */
	uint64_t drop_pending_limit; /* SYN turned away: too many undecided */
	uint64_t drop_source_limit;  /* SYN turned away: too many undecided of this source */
	uint64_t drop_flow_limit;    /* SYN turned away: too many joined */
	uint64_t drop_malformed;     /* not an IP packet, or a header that lies */
	uint64_t drop_gateway;       /* TCP to the gateway */
	uint64_t drop_write;         /* the TUN did not take a packet */
	uint64_t stack_dropped;      /* gVisor: dropped packets */
	uint64_t retransmits;        /* gVisor: TCP retransmissions */
	uint64_t checksum_errors;    /* packets with a wrong checksum */
	uint64_t goroutines;         /* gauge */
	uint64_t heap_bytes;         /* gauge: live Go heap */
};

/* NS_ABI_VERSION of the library, to be compared before any other call. */
uint32_t ns_abi_version(void);

/* Tells whether segmentation offload really works on tun_fd, by a TCP stream
 * each way through the device: 1 it does, 0 it does not.  address4 is the
 * kernel's address on the device, gateway4 the peer the library plays.
 * Blocks for at most timeout_ms.  Call it before ns_open, never beside it. */
int ns_probe(int tun_fd, uint32_t vnet_header, uint32_t mtu, char *device,
             uint8_t gateway4[4], uint32_t timeout_ms);

/* Makes a stack on an open, configured TUN.  Returns its handle. */
int64_t ns_open(struct ns_config *config);

/* The eventfd, readable when events wait that ns_pump did not raise.  It belongs
 * to the library. */
int ns_event_fd(int64_t handle);

/* Reads packets from the TUN until it is empty, budget packets were read or
 * events wait.  Returns the packets read: none while the device is lent.
 * -EBADFD: the device is gone.  -EIO: it is down. */
int ns_pump(int64_t handle, uint32_t budget);

/* Lends the device: a thread of the library reads it, until it has been silent
 * for 20 ms or fails.  Then NS_EVENT_DEVICE_RETURNED comes and the caller
 * watches the fd again.  For busy times: no packet wakes the caller then.
 * -EBUSY: it is lent already. */
int ns_lend(int64_t handle);

/* Moves up to capacity events to the array and returns how many.  The eventfd
 * is no longer readable once all were taken. */
int ns_drain(int64_t handle, struct ns_event *events, uint32_t capacity);

/* Completes the handshake with the app and joins the flow to fd, a connected
 * stream socket: bytes, half-close and reset go both ways from here on.
 * leftover goes to the app first.  fd is the library's from here on, also when
 * the call fails.  -ENOENT: no such flow waits (the app gave up).  -EMFILE: too
 * many flows are joined; the app hears nothing and may try again. */
int ns_join(int64_t handle, uint64_t flow, int fd, void *leftover, size_t length);

/* Tells the app that it cannot have this flow. */
int ns_refuse(int64_t handle, uint64_t flow, uint32_t reason);

/* Forgets the flow; the app hears nothing and may try again. */
int ns_drop(int64_t handle, uint64_t flow);

/* No new flows; joined flows that have nothing under way are reset, the others
 * once they have nothing.  Returns how many are left. */
int ns_quiesce(int64_t handle);

int ns_stats(int64_t handle, struct ns_stats *stats);

/* Resets what is left on both sides, stops every thread of this handle and
 * frees it.  Blocks for at most a second. */
int ns_close(int64_t handle);

#endif
